"""Mathematical functions of vectors, as code: no branch depends on a lane, special values are chosen by selects.

Coefficients were made as follows. A polynomial that is best in the largest weighted error (Remez's algorithm, with
mpmath at 50 digits; the weight makes it the relative error of the function) is found; its lowest coefficient is
rounded to the type, and the others are fitted again to what is left, and so on upwards. The comment beside each says
the interval and the largest error of the rounded polynomial on 3000 points.

Errors measured, in units in the last place of the result; of float32 against float64 on 2 to 20 million numbers of all
magnitudes, of float64 against mpmath on some thousands:

    exp     0.87  0.80      sin    1.53  1.44      sinh   0.51  1.20      rsqrt   1.48  1.48
    expm1   1.41  1.33      cos    1.53  1.64      cosh   0.51  1.21      power   0.51  0.93
    log     0.85  0.72      tan    0.51  2.38      tanh   1.30  1.00      erfc    0.51  2.32
    log1p   1.46  0.70      asin   0.51  1.87      asinh  0.51  1.42      erfinv  0.51  2.64
    sigmoid 1.78  1.57      acos   0.51  1.07      acosh  0.51  1.02      lgamma  0.51  3.22, for x > 0
    erf     1.01  0.83      atan   0.51  1.73      atanh  0.51  1.50      atan2   0.51  1.07

For x < 0 the error of lgamma is 1.2e-15 max(1, |lgamma(x)|). That of polygamma is 3e-15, relative for x > 0 and for
odd orders, else of 1 + |psi(x)| + 2 |psi(1 - x)|, as even orders have zeros below 0.
"""
