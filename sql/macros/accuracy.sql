-- The loss of accuracy, its standard error, and when accuracy is at chance level.
-- Over n images let F be the correct count in floating point, Q the quantized
-- network's and B the count correct in both.

-- Relative accuracy loss: (F - Q) / F; NULL where F is 0.
create or replace macro accuracy_loss(correct, float_correct) as
    (float_correct - correct) / nullif(float_correct, 0)::double;

-- Standard error of accuracy_loss from the paired counts: the delta method of the ratio
-- Q / F with the covariance from B, and 1.645 / F at least; NULL where F is 0.
-- Delta method for the ratio r = Q / F, the images drawn independently:
--     var(r) = (var(Q) - 2 r cov(Q, F) + r^2 var(F)) / F^2
-- with var(Q) = Q - Q^2 / n, var(F) = F - F^2 / n, cov(Q, F) = B - Q F / n. The terms
-- in 1 / n cancel, since Q = r F, which leaves
--     var(r) = (Q - 2 r B + r^2 F) / F^2 = (Q / F) * (Q + F - 2 B) / F^2:
-- only images that exactly one of the two classifies correctly contribute. Where no
-- image does, this would be 0, as if the loss were known exactly. So it is 1.645 / F at
-- least: Wilson's one-sided bound of 95 % for none of n images, z^2 / (n + z^2), allows
-- z^2 = 2.7 images (the rule of three says 3), and z = 1.645 such errors are z^2 / F.
create or replace macro accuracy_loss_se(correct, float_correct, correct_both) as
    sqrt(greatest(
        correct / nullif(float_correct, 0)::double
        * (correct + float_correct - 2 * correct_both),
        1.645 ** 2
    )) / nullif(float_correct, 0);

-- Whether the correct count is not significantly above chance: at most 3 binomial
-- standard deviations above image_count / class_count.
create or replace macro is_saturated(correct, image_count, class_count) as
    correct <= image_count / class_count
    + 3 * sqrt(image_count / class_count * (1 - 1 / class_count));
