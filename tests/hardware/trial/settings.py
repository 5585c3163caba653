# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The GPUs' settings as the stock nvidia-smi reports them. The trial reads and compares them, and never sets them."""

import subprocess
from xml.etree import ElementTree

from .machine import normal_address
from .record import NotPossible

# The settings in the output of `nvidia-smi -q -x`, by their names in published outputs of the branches 515, 535, 575 and 590.
# A field that a branch lacks is left out. No branch reports locked clocks.
FIELDS = (
    "accounting_mode", "applications_clocks/graphics_clock", "applications_clocks/mem_clock", "c2c_mode",
    "clock_policy/auto_boost", "compute_mode", "dram_encryption_mode/current_dram_encryption",
    "dram_encryption_mode/pending_dram_encryption", "ecc_mode/current_ecc", "ecc_mode/pending_ecc", "edpp_multiplier",
    "gpu_operation_mode/current_gom", "gpu_operation_mode/pending_gom", "gpu_power_readings/current_power_limit",
    "gpu_power_readings/requested_power_limit", "gpu_virtualization_mode/virtualization_mode", "mig_mode/current_mig",
    "mig_mode/pending_mig", "module_power_readings/requested_power_limit", "persistence_mode",
    "power_profiles/power_profile_requested_profiles", "power_readings/enforced_power_limit", "power_readings/power_limit",
    "temperature/gpu_target_temperature",
)

# For `holdfast settings apply --dry-run`. The wanted values do not matter: only those that are read are compared.
WANTED = "[gpu *]\npower-limit = 100%\ncompute-mode = default\necc = on\nmig = off\n"

# {our name of a setting: nvidia-smi's names}. The first name that a branch of the driver has is used.
NAMES = {
    "power-limit": ("gpu_power_readings/requested_power_limit", "power_readings/power_limit",
                    "gpu_power_readings/current_power_limit"),
    "compute-mode": ("compute_mode",),
    "ecc": ("ecc_mode/current_ecc",),
    "mig": ("mig_mode/current_mig",),
}


def as_holdfast_tells(fields):
    """Converts nvidia-smi's fields to {name: value} as `holdfast settings` spells them. None: the GPU lacks the setting."""
    found = {}
    for name, candidates in NAMES.items():
        text = next((fields[field] for field in candidates if field in fields), "")
        if text in ("N/A", "[N/A]"):
            found[name] = None
        elif name == "power-limit" and text:
            found[name] = f"{int(float(text.split()[0]))} W"
        elif text:
            found[name] = {"Enabled": "on", "Disabled": "off"}.get(text) or text.lower().replace("_", "-")
    return found


class Smi:
    """The stock nvidia-smi, or one that the caller names."""

    def __init__(self, program):
        self.program = program

    def run(self, *arguments):
        if not self.program:
            raise NotPossible("there is no nvidia-smi in PATH. Name one with --nvidia-smi")
        try:
            done = subprocess.run([self.program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  timeout=120, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotPossible(f"{self.program} cannot be used: {error}") from None
        if done.returncode:
            raise NotPossible(f"{self.program} {' '.join(arguments)} ends with {done.returncode}: "
                              f"{(done.stderr or done.stdout).strip()[:300]}")
        return done.stdout

    def settings(self):
        """Returns {address: {field: value}}."""
        tree = ElementTree.fromstring(self.run("-q", "-x"))
        found = {}
        for gpu in tree.iter("gpu"):
            texts = {field: gpu.findtext(field) for field in FIELDS}
            found[normal_address(gpu.get("id"))] = {field: text.strip() for field, text in texts.items() if text}
        return found

    def persistence(self):
        """Returns {address: "Enabled" or "Disabled"}, with the query that operators use."""
        lines = self.run("--query-gpu=pci.bus_id,persistence_mode", "--format=csv,noheader").splitlines()
        pairs = (line.split(",") for line in lines if line.strip())
        return {normal_address(address): mode.strip() for address, mode in pairs}

    def is_confidential(self):
        """Whether the GPUs run in Confidential Computing mode. Older versions of nvidia-smi lack the subcommand."""
        try:
            return "ON" in self.run("conf-compute", "-f").upper().replace(":", " ").split()
        except NotPossible:
            return False


def changes(before, after):
    """Returns a sentence for each difference."""
    found = []
    for address in sorted(before.keys() | after.keys()):
        old, new = before.get(address, {}), after.get(address, {})
        found += [f"{address} {field}: {old.get(field)} before, {new.get(field)} now"
                  for field in sorted(old.keys() | new.keys()) if old.get(field) != new.get(field)]
    return found
