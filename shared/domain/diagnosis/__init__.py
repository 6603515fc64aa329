"""Why a message is where it is, and what to do next: decided from what is known, in words that a person can act on."""

from shared.domain.diagnosis.diagnosis import Diagnosis, diagnose, is_incomplete
from shared.domain.diagnosis.facts import Facts

__all__ = ["Diagnosis", "Facts", "diagnose", "is_incomplete"]
