-- A number format's name does not match its family, bits and exponent bits.
-- Grain: one format that is wrong. Names: INT_8, POT_4, NF_4, FLOAT_8_E4; the eight-bit
-- formats of the OCP, whose grids end differently, name the mantissa, too:
-- FLOAT_8_E4M3FN, FLOAT_8_E5M2. The mantissa of a FLOAT has the bits not used by sign
-- and exponent.

select
    number_format.name as number_format,
    number_format.family,
    number_format.bits,
    number_format.ebits,
    number_format.mbits
from number_format
where
    number_format.name is distinct from concat_ws(
        '_',
        number_format.family,
        number_format.bits,
        'E' || number_format.ebits || case
            when number_format.name in ('FLOAT_8_E4M3FN', 'FLOAT_8_E5M2')
                then 'M' || number_format.mbits
            else ''
        end
    ) || case when number_format.name = 'FLOAT_8_E4M3FN' then 'FN' else '' end
    or number_format.family not in ('INT', 'POT', 'FLOAT', 'NF')
    or (number_format.family = 'FLOAT') is distinct from (
        number_format.ebits is not null
    )
    or (number_format.ebits + number_format.mbits + 1)
    is distinct from
    case when number_format.family = 'FLOAT' then number_format.bits end
order by number_format.name;
