-- The factor on the codes before comparison with the float tensor. fakefreeze: the
-- scale, as in the quantized network. l2: sqrt(sum x^2 / sum code^2), which equalizes
-- the L2 norms; the scale if all codes are 0. A dequantized element counts as a code of
-- scale 1.

-- Factor on the codes: their scale (fakefreeze), or the one that equalizes the L2 norms
-- (l2).
create or replace macro rescale_factor(rescale, scale, sum_x2, sum_codes2) as
    case rescale
        when 'fakefreeze' then scale
        when 'l2' then
            case
                when sum_codes2 > 0 then sqrt(sum_x2 / sum_codes2)
                else scale
            end
        else unknown_word('rescale', rescale, rescale_words())
    end;
