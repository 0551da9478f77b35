-- A number format's name does not match its family, bits and exponent bits.
-- Grain: one format that is wrong. Names: INT_8, POT_4, FLOAT_8_E4. The mantissa of a
-- FLOAT has the bits not used by sign and exponent.

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
        'E' || number_format.ebits
    )
    or number_format.family not in ('INT', 'POT', 'FLOAT')
    or (number_format.family = 'FLOAT') is distinct from (
        number_format.ebits is not null
    )
    or (number_format.ebits + number_format.mbits + 1)
    is distinct from
    case when number_format.family = 'FLOAT' then number_format.bits end
order by number_format.name;
