"""Mathematical functions of vectors, as code: no branch depends on a lane, special values are chosen by selects.

Coefficients were made as follows. A polynomial that is best in the largest weighted error (Remez's algorithm, with
mpmath at 50 digits; the weight makes it the relative error of the function) is found; its lowest coefficient is
rounded to the type, and the others are fitted again to what is left, and so on upwards. The comment beside each says
the interval and the largest error of the rounded polynomial on 3000 points.

"Measured" errors of a function are the largest seen against mpmath, in units in the last place (ulp) of the result.
"""
