-- The codes of a number format in closed form. A grid of b bits has zero and
-- 2^(b-1) - 1 magnitudes of either sign: INT_b the integers, POT_b the powers of two
-- from 2^(2 - 2^(b-1)) to 1, FLOAT_b_Ee subnormals and e exponent bits of bias
-- 2^(e-1) - 1 (the OCP microscaling elements).

-- Bits of a tensor's codes: a bias has the wide format of its family, INT_64, POT_8 or
-- FLOAT_16_E7.
create or replace macro code_bits(role, family, bits) as
    case
        when not is_bias(role) then bits
        when family = 'INT' then 64
        when family = 'POT' then 8
        when family = 'FLOAT' then 16
    end;

-- Exponent bits of a tensor's codes; NULL except for FLOAT.
create or replace macro code_ebits(role, family, ebits) as
    case when is_bias(role) and family = 'FLOAT' then 7 else ebits end;

-- Number of magnitudes above 0 of a grid.
create or replace macro magnitude_count(bits) as 2::double ** (bits - 1) - 1;

-- Number of FLOAT magnitudes above 0 and at most a positive value. From
-- the exponent x = max(floor(log2(value)), 1 - bias) on the grid's step is
-- 2^(x - mbits), and each binade below x holds 2^mbits magnitudes.
create or replace macro float_magnitudes_within(value, ebits, mbits) as
    (
        greatest(floor(log2(value)), 2 - 2::double ** (ebits - 1))
        + 2::double ** (ebits - 1) - 2
    ) * 2::double ** mbits
    + floor(value / 2::double ** (
        greatest(floor(log2(value)), 2 - 2::double ** (ebits - 1)) - mbits
    ));

-- Number of magnitudes of a grid above 0 and at most a value.
create or replace macro magnitudes_within(value, family, bits, ebits) as
    case
        when value <= 0 then 0
        else
            greatest(0, least(magnitude_count(bits), case family
                when 'INT' then floor(value)
                when 'POT' then floor(log2(value)) + magnitude_count(bits)
                when 'FLOAT' then
                    float_magnitudes_within(value, ebits, bits - 1 - ebits)
            end))
    end;

-- Fraction of the codes of a grid with at most a given magnitude.
create or replace macro codes_within_share(value, family, bits, ebits) as
    (2 * magnitudes_within(value, family, bits, ebits) + 1)
    / (2 * magnitude_count(bits) + 1);
