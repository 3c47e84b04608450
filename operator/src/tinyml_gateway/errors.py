"""Errors of the gateway agent, and the reasons that it reports.

GatewayError                      carries a `reason`; the message is a sentence with the numbers
├── AddressError                  an address that is not serial://, udp:// or tcp://
├── DeviceError
│   ├── DeviceOfflineError        does not answer: waited for, never counted against the device
│   ├── DeviceBusyError           another process holds the port: tried again, says nothing about
the device
│   ├── DeviceClassMismatchError  the device, or the image, is of another class
│   ├── DeviceRefusedError        answered a request with an error code
│   ├── DeviceProtocolError       answered something that is not what SMP says
│   └── NotActivatedError         took the images, was reset, and still runs others
└── ArtifactError
    ├── ArtifactUnavailableError  cannot be fetched now
    ├── DigestMismatchError       the bytes are not those that the spec names
    └── ImageInvalidError         the bytes are as named, but not an image that could ever run there
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a device is not running what it should: `status.failures[].reason`. docs/gateway.md
    explains each.
    """

    ADDRESS_INVALID = "AddressInvalid"
    DEVICE_UNKNOWN = "DeviceUnknown"
    DEVICE_OFFLINE = "DeviceOffline"
    DEVICE_BUSY = "DeviceBusy"
    DEVICE_CLASS_MISMATCH = "DeviceClassMismatch"
    DEVICE_REFUSED = "DeviceRefused"
    DEVICE_PROTOCOL_ERROR = "DeviceProtocolError"
    NOT_ACTIVATED = "NotActivated"
    ARTIFACT_UNAVAILABLE = "ArtifactUnavailable"
    DIGEST_MISMATCH = "DigestMismatch"
    IMAGE_INVALID = "ImageInvalid"
    INTERNAL_ERROR = "InternalError"


class GatewayError(Exception):
    """Something that the agent reports. `str(error)` is the sentence, `reason` the word."""

    reason: Reason = Reason.INTERNAL_ERROR


class AddressError(GatewayError):
    reason = Reason.ADDRESS_INVALID


class DeviceError(GatewayError):
    pass


class DeviceOfflineError(DeviceError):
    reason = Reason.DEVICE_OFFLINE


class DeviceBusyError(DeviceError):
    reason = Reason.DEVICE_BUSY


class DeviceClassMismatchError(DeviceError):
    reason = Reason.DEVICE_CLASS_MISMATCH


class DeviceRefusedError(DeviceError):
    """`group` and `rc` are what the device answered; group -1 is an SMP version 1 code."""

    reason = Reason.DEVICE_REFUSED

    def __init__(self, message: str, *, group: int = -1, rc: int = -1) -> None:
        super().__init__(message)
        self.group = group
        self.rc = rc


class DeviceProtocolError(DeviceError):
    reason = Reason.DEVICE_PROTOCOL_ERROR


class NotActivatedError(DeviceError):
    reason = Reason.NOT_ACTIVATED


class ArtifactError(GatewayError):
    pass


class ArtifactUnavailableError(ArtifactError):
    reason = Reason.ARTIFACT_UNAVAILABLE


class DigestMismatchError(ArtifactError):
    reason = Reason.DIGEST_MISMATCH


class ImageInvalidError(ArtifactError):
    reason = Reason.IMAGE_INVALID
