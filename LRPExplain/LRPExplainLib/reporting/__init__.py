"""The record of an explanation, for reviewers and regulators: one HTML file and the same facts as JSON."""

from .dicom import export_dicom
from .record import Record, check_place, make_record
from .verification import TOLERANCE, Places, Verification, verify

__all__ = ["TOLERANCE", "Places", "Record", "Verification", "check_place", "export_dicom", "make_record", "verify"]
