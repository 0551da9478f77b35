-- Which images an evaluation has, image by image. All N images of a dataset have one
-- order, in which every prefix is spread evenly over them; an evaluation of fewer
-- images has the first ones. Bit p of correct_images and same_images, from the left and
-- from 0, belongs to the image at place p.

-- From one place to the next, the index of the image grows by this, modulo N: the
-- smallest number from 0.618034 N that is coprime to N.
create or replace macro image_stride(image_count) as
    list_filter(
        range(
            618034 * image_count::bigint // 1000000,
            618034 * image_count::bigint // 1000000 + 1000
        ),
        lambda stride: gcd(stride, image_count) = 1
    )[1];

-- Index of the image at a place of the order, both from 0.
create or replace macro image_at(place, image_count) as
    place * image_stride(image_count) % image_count;

-- The first bits of a string of N bits, moved to its end; the others are 0.
create or replace macro first_bits(bits, image_count) as
    bits >> (length(bits) - image_count)::integer;

-- Whether two strings of bits agree as far as the shorter one goes; NULL if either is.
create or replace macro agree_on_first(bits, other_bits) as
    case
        when length(bits) >= length(other_bits)
            then
                first_bits(bits, length(other_bits))
                = bitstring(other_bits, length(bits)::integer)
        else
            first_bits(other_bits, length(bits))
            = bitstring(bits, length(other_bits)::integer)
    end;

-- The correct count in floating point on the images of an evaluation: on all N the
-- stored count, on fewer that of the first bits; NULL if these are unknown.
create or replace macro float_correct_count(
    image_count, float_image_count, float_correct_top1, float_correct_images
) as
    case
        when image_count = float_image_count then float_correct_top1
        when image_count < float_image_count
            then bit_count(first_bits(float_correct_images, image_count))
    end;
