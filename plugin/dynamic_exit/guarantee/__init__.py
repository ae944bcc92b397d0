"""A guarantee with a probability: the true accuracy drop is at most the allowed one.

Risk control by fixed-sequence testing (Learn then Test, arXiv 2110.01052; for early exit, Fast yet Safe, arXiv
2405.20915): configurations, ordered before the calibration samples are looked at, are tested from the safest to the
boldest until one fails.
"""

from .betting_test import BettingTest, Losses, samples_needed
from .certify import Certificate, ConfigurationSearch, certify_boldest, make_test_sequence
from .drop_checks import DropCheck, check_drops, describe_unmet_requirements, standard_error, with_standard_error
from .fixed_sequence import Expected, TestOutcome, check_probability, count_losses, fixed_sequence_test

__all__ = [
    "BettingTest",
    "Certificate",
    "ConfigurationSearch",
    "DropCheck",
    "Expected",
    "Losses",
    "TestOutcome",
    "certify_boldest",
    "check_drops",
    "check_probability",
    "count_losses",
    "describe_unmet_requirements",
    "fixed_sequence_test",
    "make_test_sequence",
    "samples_needed",
    "standard_error",
    "with_standard_error",
]
