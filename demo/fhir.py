"""The few words of FHIR R4 that the demonstration needs: the patient of a bundle, and the patient's record number."""

from __future__ import annotations

from typing import Any


def patient_of(bundle: dict[str, Any]) -> dict[str, Any]:
    """Return the Patient resource of a FHIR bundle that is about one patient."""
    patients = [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == "Patient"]
    if bundle["resourceType"] != "Bundle" or len(patients) != 1:
        raise ValueError("not a FHIR bundle of one patient")
    found: dict[str, Any] = patients[0]
    return found


def record_number(patient: dict[str, Any]) -> str:
    """Return the medical record number of a Patient resource (identifier type MR of HL7 table 0203)."""
    for one in patient["identifier"]:
        if any(coding["code"] == "MR" for coding in one.get("type", {}).get("coding", ())):
            return str(one["value"])
    raise ValueError("the patient has no medical record number")
