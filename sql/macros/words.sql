-- The words that the parameters of variant take, each list once, and the message that
-- names them. A case expression over such a word ends in unknown_word, so that an
-- invalid word is an error in Python and in the shell alike.

-- Valid rescales: codes times their scale; codes times what equals the L2 norms.
create or replace macro rescale_words() as ['fakefreeze', 'l2'];

-- Valid ways to combine a layer's weight and bias; half is left out of view names.
create or replace macro combine_words() as
    ['half', 'nodiv', 'weightratio', 'weightonly'];

-- Valid shares: of the params, of the MACs, every layer alike.
create or replace macro share_words() as ['param', 'flops', 'layer'];

-- Valid factors of a network: of its MACs or of its depth.
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
    'rootfanin'
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

-- Measures from the sums over pairs of element and code.
create or replace macro paired_measure_words() as
    ['js_softmax', 'nsr', 'cosine', 'pearson', 'bits'];

-- Measures that the inputs of layers have too.
create or replace macro input_measure_words() as ['nsr', 'cosine', 'pearson', 'bits'];

-- Valid measures of the damage to a tensor.
create or replace macro measure_words() as
    histogram_measure_words()
    || ['sharpness_gap']
    || paired_measure_words()
    || ['channelnsr'];

-- Valid choices of the tensors whose damage counts: weights and biases, the inputs of
-- the layers, or both added up.
create or replace macro tensors_words() as ['parameters', 'inputs', 'both'];

-- Valid aggregates over the layers of a network; sum is the share-weighted one.
create or replace macro aggregate_words() as ['sum', 'max', 'plainsum', 'mean'];

-- Valid scopes: what is quantized in the evaluation.
create or replace macro scope_words() as ['all', 'weight', 'bias', 'input'];

-- NULL for a valid word; for any other the message that names the valid ones.
create or replace macro word_message(parameter, word, words) as
    case
        when coalesce(list_contains(words, word), false) then null
        else
            'variant: ' || parameter || ' is one of '
            || coalesce(array_to_string(words, ', '), '(none yet)')
            || '; found ' || coalesce(word::varchar, 'NULL')
    end;

-- Raises the error that names the valid words of a parameter.
create or replace macro unknown_word(parameter, word, words) as
    error(word_message(parameter, word, words));

-- NULL for a bin count that 4095 coarsens to; for any other the message that says so.
-- 4095 itself is left out: half the largest code would sit on an edge.
create or replace macro bins_message(bins) as
    case
        when bins between 3 and 1365 and 4095 % bins = 0 then null
        else
            'variant: bins is a divisor of 4095 between 3 and 1365, such as 13, 21, '
            || '63, 273 or 1365; found ' || coalesce(bins::varchar, 'NULL')
    end;
