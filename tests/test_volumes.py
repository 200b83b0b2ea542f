"""Volumes: two ways to write one, what is sent for it, and what is refused with the volume's name."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from typing import Any, Callable, Dict

import pytest

from opensandbox_sync import OSSFS, PVC, BadRequestError, Host, InvalidArgumentError, SandboxClient, Volume
from opensandbox_sync.codec import encode

KEYS = {"access_key_id": "the-key-id", "access_key_secret": "the-key-secret"}


@pytest.mark.parametrize(
    ("short", "long", "sent"),
    [
        (
            Volume.host("data", "/srv/data", mount_path="/data"),
            Volume("data", "/data", host=Host("/srv/data")),
            {"name": "data", "mountPath": "/data", "host": {"path": "/srv/data"}},
        ),
        (
            Volume.host("w", "C:\\data", mount_path="/data", read_only=True, sub_path="a/b"),
            Volume("w", "/data", Host("C:\\data"), read_only=True, sub_path="a/b"),
            {"name": "w", "mountPath": "/data", "host": {"path": "C:\\data"}, "readOnly": True, "subPath": "a/b"},
        ),
        (
            Volume.pvc("cache", "claim-1", mount_path="/cache"),
            Volume("cache", "/cache", pvc=PVC("claim-1")),
            {"name": "cache", "mountPath": "/cache", "pvc": {"claimName": "claim-1"}},
        ),
        (
            Volume.pvc(
                "cache",
                "claim-1",
                mount_path="/cache",
                create_if_not_exists=False,
                delete_on_sandbox_termination=True,
                storage_class="fast",
                storage="1.5Gi",
                access_modes=["ReadWriteOnce"],
            ),
            Volume("cache", "/cache", pvc=PVC("claim-1", False, True, "fast", "1.5Gi", ["ReadWriteOnce"])),
            {
                "name": "cache",
                "mountPath": "/cache",
                "pvc": {
                    "claimName": "claim-1",
                    "createIfNotExists": False,
                    "deleteOnSandboxTermination": True,
                    "storageClass": "fast",
                    "storage": "1.5Gi",
                    "accessModes": ["ReadWriteOnce"],
                },
            },
        ),
        (
            Volume.ossfs("b", "bucket", mount_path="/b", endpoint="oss.example.com", sub_path="prefix", **KEYS),
            Volume("b", "/b", ossfs=OSSFS("bucket", "oss.example.com", **KEYS), sub_path="prefix"),
            {
                "name": "b",
                "mountPath": "/b",
                "subPath": "prefix",
                "ossfs": {
                    "bucket": "bucket",
                    "endpoint": "oss.example.com",
                    "version": "2.0",
                    "accessKeyId": "the-key-id",
                    "accessKeySecret": "the-key-secret",
                },
            },
        ),
    ],
)
def test_both_ways_to_write_a_volume_send_the_same_and_nothing_unset(
    short: Volume, long: Volume, sent: Dict[str, Any]
) -> None:
    assert short == long
    assert encode(short) == encode(long) == sent


def test_a_volume_holds_its_backend_and_none_for_the_others() -> None:
    volume = Volume.host("data", "/srv/data", mount_path="/data")
    assert (volume.host, volume.pvc, volume.ossfs) == (Host("/srv/data"), None, None)
    assert "host=Host(path='/srv/data'), pvc=None, ossfs=None" in repr(volume)


def test_a_volume_copies_pickles_and_can_be_replaced_in() -> None:
    volume = Volume.pvc("data", "claim", mount_path="/data")
    assert copy.deepcopy(volume) == pickle.loads(pickle.dumps(volume)) == volume
    other = dataclasses.replace(volume, mount_path="/other")
    assert (other.mount_path, other.pvc) == ("/other", PVC("claim"))


@pytest.mark.parametrize("name", ["a", "0", "a-b", "a" * 63])
def test_a_name_is_a_dns_label(name: str) -> None:
    assert Volume.host(name, "/srv", mount_path="/d").name == name


def ossfs(**changes: Any) -> Volume:
    settings: Dict[str, Any] = {"bucket": "bucket", "endpoint": "oss.example.com", **KEYS, **changes}
    return Volume("data", "/d", ossfs=OSSFS(**settings))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Volume("Data", "/d", host=Host("/s")), "volume name .*not 'Data'"),
        (lambda: Volume("-a", "/d", host=Host("/s")), "volume name .*not '-a'"),
        (lambda: Volume("a\n", "/d", host=Host("/s")), "volume name"),
        (lambda: Volume("a" * 64, "/d", host=Host("/s")), "volume name .*at most 63"),
        (lambda: Volume("", "/d", host=Host("/s")), "volume name .*not ''"),
        (lambda: Volume(None, "/d", host=Host("/s")), "volume name .*not None"),
        (lambda: Volume("data", "d", host=Host("/s")), "volume 'data': mount_path must be absolute, not 'd'"),
        (lambda: Volume("data", "", host=Host("/s")), "volume 'data': mount_path"),
        (lambda: Volume("data", "/d"), "volume 'data': exactly one of host, pvc and ossfs .*none was given"),
        (
            lambda: Volume("data", "/d", host=Host("/s"), pvc=PVC("c")),
            "volume 'data': exactly one .*host and pvc were given",
        ),
        (lambda: Volume("data", "/d", host="/s"), r"volume 'data': host must be Host\(…\), not str"),
        (lambda: Volume("data", "/d", host=Host("s")), "volume 'data': host path must be absolute .*not 's'"),
        (lambda: Volume("data", "/d", host=Host("C:data")), "volume 'data': host path must be absolute"),
        (lambda: Volume("data", "/d", host=Host("/s"), sub_path="/a"), "volume 'data': sub_path .*not '/a'"),
        (lambda: Volume("data", "/d", host=Host("/s"), sub_path="a/../b"), "volume 'data': sub_path .*without '..'"),
        (lambda: Volume("data", "/d", host=Host("/s"), read_only="yes"), "volume 'data': read_only"),
        (lambda: Volume("data", "/d", pvc=PVC("Claim")), "volume 'data': pvc claim_name"),
        (lambda: Volume("data", "/d", pvc=PVC("c" * 254)), "volume 'data': pvc claim_name .*at most 253"),
        (lambda: Volume("data", "/d", pvc=PVC("c", storage="10 GB")), "volume 'data': storage .*'10Gi', not '10 GB'"),
        (lambda: Volume("data", "/d", pvc=PVC("c", storage="٣Gi")), "volume 'data': storage"),
        (lambda: Volume("data", "/d", pvc=PVC("c", access_modes="ReadWriteOnce")), "volume 'data': access_modes"),
        (lambda: Volume("data", "/d", pvc=PVC("c", create_if_not_exists=1)), "volume 'data': create_if_not_exists"),
        (lambda: ossfs(bucket="bu"), "volume 'data': ossfs bucket must have 3 to 63"),
        (lambda: ossfs(endpoint=" "), "volume 'data': ossfs endpoint"),
        (lambda: ossfs(version="3.0"), "volume 'data': ossfs version .*'1.0' or '2.0'.*not '3.0'"),
        (lambda: ossfs(version=2.0), "volume 'data': ossfs version"),
        (lambda: ossfs(options=["allow_other", "-o ro"]), "volume 'data': ossfs option '-o ro' .*leading '-'"),
        (lambda: ossfs(options="allow_other"), "volume 'data': ossfs options must be a list"),
        (lambda: ossfs(options=[""]), "volume 'data': each of ossfs options"),
        (lambda: ossfs(access_key_id=None), "volume 'data': ossfs access_key_id"),
        (lambda: ossfs(access_key_secret=""), "volume 'data': ossfs access_key_secret .*both keys"),
    ],
)
def test_what_the_server_would_refuse_is_refused_with_the_volumes_name(make: Callable[[], Volume], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Volume.host("d", "/srv/..data", mount_path="/d", sub_path=""),
        lambda: Volume.host("d", "/", mount_path="/", sub_path="a/..b"),
        lambda: Volume.host("d", "c:/data", mount_path="/d"),
        lambda: Volume.pvc("d", "c" * 253, mount_path="/d", storage="10"),
        lambda: ossfs(options=["uid=1000", "allow_other"], version="1.0"),
    ],
)
def test_what_the_server_takes_is_not_refused(make: Callable[[], Volume]) -> None:
    make()


def test_a_volume_that_was_changed_is_checked_again_before_it_is_sent() -> None:
    volume = Volume.host("data", "/srv", mount_path="/d")
    volume.mount_path = "d"
    with SandboxClient(domain="127.0.0.1:1") as client, pytest.raises(InvalidArgumentError, match="volume 'data'"):
        client.create("x", volumes=[volume])


@pytest.mark.parametrize(
    ("volumes", "words"),
    [
        ([Volume.host("a", "/s", mount_path="/d"), Volume.pvc("a", "c", mount_path="/e")], "two are named 'a'"),
        ([{"name": "a"}], r"volumes\[0\] must be a Volume, not dict"),
        (Volume.host("a", "/s", mount_path="/d"), "volumes must be a list of Volume, not Volume"),
    ],
)
def test_a_wrong_list_of_volumes_is_refused_before_anything_is_sent(volumes: Any, words: str) -> None:
    with SandboxClient(domain="127.0.0.1:1") as client, pytest.raises(InvalidArgumentError, match=words):
        client.create("x", volumes=volumes)


def test_the_keys_of_a_bucket_are_in_no_repr_and_no_error() -> None:
    volume = ossfs()
    assert "the-key" not in repr(volume) and "the-key" not in str(volume.ossfs)
    assert "the-key-secret" in json.dumps(encode(volume))
    with pytest.raises(InvalidArgumentError) as caught:
        ossfs(access_key_id="", bucket="bu", access_key_secret="the-key-secret")
    assert "the-key" not in str(caught.value)


@pytest.mark.embedded
@pytest.mark.parametrize(
    ("volume", "code", "words"),
    [
        (Volume.host("d", "/etc", mount_path="/d"), "VOLUME::HOST_PATH_NOT_ALLOWED", "'/etc' is not under any"),
        (Volume.host("d", "/srv/", mount_path="/d"), "VOLUME::INVALID_HOST_PATH", "not normalized"),
        (Volume.pvc("d", "claim", mount_path="/d"), "VOLUME::UNSUPPORTED_BACKEND", "without isolation"),
        (ossfs(), "VOLUME::UNSUPPORTED_BACKEND", "without isolation"),
    ],
)
def test_the_embedded_server_checks_a_volume_and_says_why_it_cannot_mount_it(
    client: SandboxClient, volume: Volume, code: str, words: str
) -> None:
    with pytest.raises(BadRequestError, match=words) as caught:
        client.create("x", volumes=[volume])
    assert caught.value.code == code
    assert "the-key" not in str(caught.value) + caught.value.body
