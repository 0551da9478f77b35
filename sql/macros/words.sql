-- The valid words of the parameters of variant, each list once, and the message that
-- lists them. A case expression over such a word ends in unknown_word, so that an
-- invalid word raises an error from any client.

-- Valid rescales: codes times their scale, or times the factor that equalizes the L2
-- norms.
create or replace macro rescale_words() as ['fakefreeze', 'l2'];

-- Valid ways to combine a layer's weight and bias; half is omitted from view names.
create or replace macro combine_words() as
    ['half', 'nodiv', 'weightratio', 'weightonly'];

-- Valid shares: by params, by MACs, equal for every layer, or by the effect of noise in
-- its output on the decision of the float network.
create or replace macro share_words() as ['param', 'flops', 'layer', 'sensitivity'];

-- Valid factors of a network: from its MACs or its depth.
create or replace macro mac_weight_words() as
    ['none', 'log', 'cuberoot', 'sqrt', 'depth', 'rootdepth'];

-- Valid corrections of a tensor's divergence.
create or replace macro correction_words() as [
    'none',
    'cosine',
    'pearson',
    'sharpness',
    'coverage',
    'bincoverage',
    'sensitivity',
    'fanin',
    'rootfanin',
    'coherence'
];

-- Measures from two histograms over the same bins; the other measures have no bins.
create or replace macro histogram_measure_words() as [
    'js',
    'kl',
    'hellinger',
    'total_variation',
    'wasserstein',
    'bin_cosine',
    'bin_pearson',
    'uncovered',
    'uncovered_bins'
];

-- Measures from sums over pairs of element and code.
create or replace macro paired_measure_words() as
    ['js_softmax', 'nsr', 'coherent', 'orthogonal', 'cosine', 'pearson', 'bits'];

-- Measures that also exist for the inputs of layers. For channelnsr see input_measure.
create or replace macro input_measure_words() as
    ['nsr', 'coherent', 'orthogonal', 'cosine', 'pearson', 'bits', 'channelnsr'];

-- Measures of the whole network, from its probe.
create or replace macro probe_measure_words() as
    ['probe_soft', 'probe_agreement', 'probe_kl', 'probe_logit'];

-- Valid measures of the damage: to a tensor, or (probe_*) to the network's outputs.
create or replace macro measure_words() as
    histogram_measure_words()
    || ['sharpness_gap']
    || paired_measure_words()
    || ['channelnsr']
    || probe_measure_words();

-- Measures that also exist for tensors as trained, whose channels are not measured.
create or replace macro trained_measure_words() as
    histogram_measure_words() || ['sharpness_gap'] || paired_measure_words();

-- Valid choices of the tensors whose damage counts: weights and biases, the inputs of
-- the layers, the sum of both, or weights and biases before folding batch norm.
create or replace macro tensors_words() as ['parameters', 'inputs', 'both', 'trained'];

-- Roles of weights and biases, as they run and as trained.
create or replace macro parameter_roles() as
    ['weight', 'bias', 'trained_weight', 'trained_bias'];

-- Whether a role is that of a bias.
create or replace macro is_bias(role) as role in ('bias', 'trained_bias');

-- Role of the tensor that counts as weight or bias (the word) of a layer. As trained,
-- the tensors of a layer without folded batch norm are the ordinary ones; NULL if it is
-- unknown whether there was one.
create or replace macro counted_role(word, tensors, is_folded) as
    case
        when tensors != 'trained' then word
        when is_folded then 'trained_' || word
        when not is_folded then word
    end;

-- Valid aggregates over the layers of a network; sum is the share-weighted one.
create or replace macro aggregate_words() as ['sum', 'max', 'plainsum', 'mean'];

-- Valid scopes: what is quantized in the evaluation.
create or replace macro scope_words() as ['all', 'weight', 'bias', 'input'];

-- NULL for a valid word; otherwise a message that lists the valid ones.
create or replace macro word_message(parameter, word, words) as
    case
        when coalesce(list_contains(words, word), false) then null
        else
            'variant: ' || parameter || ' is one of '
            || array_to_string(words, ', ')
            || '; found ' || coalesce(word::varchar, 'NULL')
    end;

-- Raise an error that lists the valid words of a parameter.
create or replace macro unknown_word(parameter, word, words) as
    error(word_message(parameter, word, words));

-- NULL for a valid number of coarse bins; otherwise a message that lists valid ones.
-- 4095 itself is not valid: half the largest code would lie on an edge.
create or replace macro bins_message(bins) as
    case
        when bins between 3 and 1365 and 4095 % bins = 0 then null
        else
            'variant: bins is a divisor of 4095 between 3 and 1365, such as 13, 21, '
            || '63, 273 or 1365; found ' || coalesce(bins::varchar, 'NULL')
    end;
