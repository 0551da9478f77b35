-- What ptqdb compare found: derived from the facts, and emptied when facts are added.

create table fit (
    fit_id integer primary key,
    view varchar not null,
    curve varchar not null,
    leave_out varchar not null check (leave_out in ('network', 'architecture')),
    fingerprint varchar not null,
    fitted_at timestamp not null,
    points integer not null,
    r_squared double,
    adjusted_r_squared double,
    rmse double,
    aic double,
    bic double,
    ceiling_r_squared double,
    held_out_r_squared double,
    held_out_rmse double,
    held_out_median_error double,
    monotone boolean,
    params double[] not null,
    error varchar,
    unique (view, curve, leave_out)
);
comment on table fit is
'Grain: one curve fitted over all points of one view. Key: fit_id; view, curve and
leave_out. Written by ptqdb compare and emptied when facts are added.';
comment on column fit.fit_id is 'Id of the fit';
comment on column fit.view is 'Name of the view, or the call of variant';
comment on column fit.curve is 'Name of the curve, such as rational2';
comment on column fit.leave_out is
'What is left out at a time for the held-out figures: network or architecture';
comment on column fit.fingerprint is
'SHA-256 over the points, the curve and the version of ptqdb, hexadecimal';
comment on column fit.fitted_at is 'When it was fitted, UTC';
comment on column fit.points is 'Rows of the view with a finite divergence and loss';
comment on column fit.r_squared is
'1 - (sum of squared residuals) / (sum of squares about the mean); NULL without a fit';
comment on column fit.adjusted_r_squared is
'r_squared for the degrees of freedom that the curve spent';
comment on column fit.rmse is
'Root of the mean squared residual, a fraction of the float accuracy';
comment on column fit.aic is 'Akaike''s criterion; NULL without a likelihood';
comment on column fit.bic is 'Schwarz''s criterion; NULL without a likelihood';
comment on column fit.ceiling_r_squared is
'r_squared of isotonic regression, which no non-decreasing curve exceeds';
comment on column fit.held_out_r_squared is
'1 - (sum of squared errors) / (sum of squares about the mean), each point predicted by
a curve that never saw its network or architecture';
comment on column fit.held_out_rmse is
'Root of the mean squared held-out error, a fraction of the float accuracy';
comment on column fit.held_out_median_error is
'Median absolute held-out error, a fraction of the float accuracy';
comment on column fit.monotone is
'Whether the curve is proved non-decreasing over the points';
comment on column fit.params is 'Parameters of the curve, in the order of its model';
comment on column fit.error is 'Why nothing was fitted; NULL otherwise';

create table fit_fold (
    fit_id integer not null,
    left_out varchar not null,
    points integer not null,
    sse double,
    inner_r_squared double
);
comment on table fit_fold is
'Grain: one network (or architecture) left out of one fit. Key: fit_id, left_out (not
enforced).';
comment on column fit_fold.fit_id is 'The fit';
comment on column fit_fold.left_out is 'The network or architecture that was left out';
comment on column fit_fold.points is 'Its points';
comment on column fit_fold.sse is
'Sum of its squared errors, predicted by the curve fitted to all others; NULL where
these do not carry the curve';
comment on column fit_fold.inner_r_squared is
'Held-out R squared among the others alone, as if this one did not exist: what a choice
of view and curve may look at before it is judged on this one';
