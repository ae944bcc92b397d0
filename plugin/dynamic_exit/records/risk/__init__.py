"""What a wrong answer costs: accuracy, top-k accuracy, balanced accuracy, agreement, or losses of the user's own."""

from .base import Accuracy, Risk
from .builtin import Agreement, BalancedAccuracy, ExpectedLoss, TopK
from .parse import RISK_NAMES, is_file, known_risk, parse_risk

__all__ = [
    "RISK_NAMES",
    "Accuracy",
    "Agreement",
    "BalancedAccuracy",
    "ExpectedLoss",
    "Risk",
    "TopK",
    "is_file",
    "known_risk",
    "parse_risk",
]
