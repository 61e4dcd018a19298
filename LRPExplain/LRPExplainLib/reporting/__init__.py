"""The record of an explanation, for reviewers and regulators: one HTML file and the same facts as JSON."""

from .record import Record, check_place, make_record
from .verification import TOLERANCE, Places, Verification, verify

__all__ = ["TOLERANCE", "Places", "Record", "Verification", "check_place", "make_record", "verify"]
