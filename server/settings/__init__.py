"""All settings in one frozen object: defaults, then one YAML file, then `DECANT_...` in the environment.

In a variable's name, two underscores go one step down: DECANT_SERVER__PORT=9000, DECANT_POLICY__MODEL=/models/policy.
"""

from server.settings.body_limits import BodyLimits
from server.settings.connection_limits import ConnectionLimits
from server.settings.guides import AnyGuide, ArmGuide, ImplicitGuide, ModelGuide, QHeadGuide
from server.settings.logs import LogSettings
from server.settings.rewards import (
    AnyReward,
    ClassifierReward,
    FunctionCall,
    FunctionReward,
    GuideReward,
    HttpReward,
    ModelReward,
    ProcessReward,
    RewardSettings,
    Template,
    TextReward,
)
from server.settings.section import EngineArgs, Section, SettingsError
from server.settings.sections import ENGINES, CalibrationSettings, PolicySettings, ServerSettings, Settings

__all__ = [
    "ENGINES",
    "AnyGuide",
    "AnyReward",
    "ArmGuide",
    "BodyLimits",
    "CalibrationSettings",
    "ClassifierReward",
    "ConnectionLimits",
    "EngineArgs",
    "FunctionCall",
    "FunctionReward",
    "GuideReward",
    "HttpReward",
    "ImplicitGuide",
    "LogSettings",
    "ModelGuide",
    "ModelReward",
    "PolicySettings",
    "ProcessReward",
    "QHeadGuide",
    "RewardSettings",
    "Section",
    "ServerSettings",
    "Settings",
    "SettingsError",
    "Template",
    "TextReward",
]
