-- The bins of a tensor. Fine: 4095 bins of width max_abs / 2047; bin 0 is centred on
-- zero, bins -2047 and 2047 on the largest elements. Coarse: any odd divisor of 4095 =
-- 3 * 3 * 5 * 7 * 13; each coarse bin joins g = 4095 / bins fine ones, and bin 0 is
-- again centred on zero. The edges of coarse bins lie at (2k + 1) * g / 2 fine widths,
-- the codes of a grid at 2047 * code / max_code. With g > 1 they never coincide: 2047
-- shares no factor with 4095, nor with the largest code of a format (see
-- test_database). With g = 1, half the largest code of POT and FLOAT lies on an edge;
-- bins_message rejects it.

-- Bin of a value: round(value * 2047 / max_abs), ties toward zero; continues beyond the
-- range.
create or replace macro fine_bin(value, max_abs) as
    case
        when max_abs = 0 then 0
        else sign(value) * ceil(abs(value) * 2047 / max_abs - 0.5)
    end::bigint;

-- Value at the centre of a fine bin.
create or replace macro bin_centre(bin, max_abs) as bin * max_abs / 2047;

-- Coarse bin of a fine bin, for a number of bins that is an odd divisor of 4095.
create or replace macro coarse_bin(bin, bins) as
    sign(bin) * ((abs(bin) + (4095 // bins - 1) // 2) // (4095 // bins));

-- Largest absolute value of a range.
create or replace macro max_abs(min_value, max_value) as
    greatest(abs(min_value), abs(max_value));
