-- Measures of the damage to a network's outputs on the images of its probe, compared
-- with the float network, without labels.

-- Soft agreement as a loss: 1 - sum p(quantized prediction) / sum p(own prediction),
-- where p are the probabilities of the float network. If these are calibrated, the sums
-- are the expected correct counts, and this is the expected accuracy loss. In [0, 1].
create or replace macro probe_soft(chosen_probability_sum, float_probability_sum) as
    greatest(0, float_probability_sum - chosen_probability_sum)
    / nullif(float_probability_sum, 0);

-- A measure of every probe: probe_soft; probe_agreement, the share of images with
-- another prediction; probe_kl, the mean KL divergence in nats; probe_logit, the noise
-- of the logits over their variance (nsr of the outputs), both over the classes.
-- Grain: one probe. Key: network_id, number_format_id, scheme_id. NULL where no image
-- has what the measure needs. No rows for other measures.
create or replace macro probe_measure(the_measure) as table
select
    probe.network_id,
    probe.number_format_id,
    probe.scheme_id,
    case the_measure
        when 'probe_soft' then
            probe_soft(probe.chosen_probability_sum, probe.float_probability_sum)
        when 'probe_agreement' then
            1 - probe.same_prediction / nullif(probe.image_count, 0)
        when 'probe_kl' then greatest(0, probe.kl_sum) / nullif(probe.kl_count, 0)
        when 'probe_logit' then
            probe.logit_squared_error_sum / nullif(probe.float_logit_variance_sum, 0)
    end as divergence
from probe
where list_contains(probe_measure_words(), the_measure);
