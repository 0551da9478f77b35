-- The bins of a tensor. Fine: 4095 bins whose width is max_abs / 2047, zero in the
-- middle of bin 0 and the largest elements in the middle of bins -2047 and 2047.
-- Coarse: any odd divisor of 4095 = 3 * 3 * 5 * 7 * 13, each coarse bin a run of
-- g = 4095 / bins fine ones, zero again in the middle.
-- An edge of a coarse bin lies at (2k + 1) * g / 2 fine widths, a code of a grid at
-- 2047 * code / max_code. With g > 1 they never meet: 2047 shares no factor with 4095,
-- nor with the largest code of a format (see test_database). With g = 1 half the
-- largest code of POT and FLOAT sits on an edge; bins_message refuses it.

-- Bin of a value: round(value * 2047 / max_abs), ties toward zero; past the range it
-- goes on counting.
create or replace macro fine_bin(value, max_abs) as
    case
        when max_abs = 0 then 0
        else sign(value) * ceil(abs(value) * 2047 / max_abs - 0.5)
    end::bigint;

-- Coarse bin of a fine bin where 4095 bins become the given number: an odd divisor.
create or replace macro coarse_bin(bin, bins) as
    sign(bin) * ((abs(bin) + (4095 // bins - 1) // 2) // (4095 // bins));

-- Largest absolute value of a range.
create or replace macro max_abs(min_value, max_value) as
    greatest(abs(min_value), abs(max_value));
