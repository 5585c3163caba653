# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""The protocol of RPC program 35006 (docs/protocol.md): statuses, rejections, and how bytes may arrive."""

import socket
import subprocess

import pytest

from harness import rpc

pytestmark = pytest.mark.one_backend("the daemon decodes calls and checks callers before it uses a GPU")

NOWHERE = "0000:7f:1f.0"


@pytest.fixture
def client(daemon):
    with daemon.connect() as connection:
        yield connection


# ---- procedures and statuses


@pytest.mark.parametrize("version", [1, 2])
def test_null_procedure_of_each_version_gives_an_empty_reply(client, version):
    assert client.null(version) == []


@pytest.mark.both_backends
def test_get_of_a_held_gpu_says_enabled(client, world):
    for address in world.gpus:
        assert client.get(address) == (rpc.SUCCESS, rpc.ENABLED)


def test_get_reply_has_exactly_the_words_that_nvml_expects(client, world):
    reply = client.call(1, rpc.V1_GET, rpc.device(world.gpus[0]), xid=7)
    assert reply.words == [7, 1, 0, 0, 0, 0, rpc.SUCCESS, rpc.ENABLED]


def test_get_of_an_unknown_device_is_device_not_found_without_a_mode(client):
    assert client.call(1, rpc.V1_GET, rpc.device(NOWHERE)).results == [rpc.DEVICE_NOT_FOUND]


def test_the_function_of_the_address_is_ignored(client, world):
    domain, bus, slot, _ = (int(part, 16) for part in world.gpus[0].replace(".", ":").split(":"))
    assert client.results(1, rpc.V1_GET, rpc.words(domain, bus, slot, 5)) == [rpc.SUCCESS, rpc.ENABLED]


@pytest.mark.parametrize("words", [(-1, 0, 0, 0), (0, 256 + 0x17, 0, 0), (0, 0, -1, 0), (0x7FFFFFFF,) * 4],
                         ids=["negative domain", "bus over a byte", "negative slot", "all large"])
def test_get_of_an_address_out_of_range_is_device_not_found(client, words):
    assert client.results(1, rpc.V1_GET, rpc.words(*words)) == [rpc.DEVICE_NOT_FOUND]


@pytest.mark.both_backends
def test_set_persistence_mode_switches_off_and_on_again(client, world):
    address = world.gpus[0]
    assert client.set(address, rpc.DISABLED) == rpc.SUCCESS
    assert client.get(address) == (rpc.SUCCESS, rpc.DISABLED)
    assert client.set(address, rpc.ENABLED) == rpc.SUCCESS
    assert client.get(address) == (rpc.SUCCESS, rpc.ENABLED)


@pytest.mark.both_backends
def test_set_persistence_mode_only_switches_off_and_on_again(client, world):
    address = world.gpus[0]
    assert client.set_only(address, rpc.DISABLED) == rpc.SUCCESS
    assert client.get(address) == (rpc.SUCCESS, rpc.DISABLED)
    assert client.set_only(address, rpc.ENABLED) == rpc.SUCCESS
    assert client.get(address) == (rpc.SUCCESS, rpc.ENABLED)


@pytest.mark.both_backends
def test_set_of_one_gpu_does_not_affect_the_others(client, world):
    assert client.set(world.gpus[0], rpc.DISABLED) == rpc.SUCCESS
    assert client.get(world.gpus[1]) == (rpc.SUCCESS, rpc.ENABLED)
    assert world.sim.gpu(world.gpus[1])["teardowns"] == 0


@pytest.mark.both_backends
def test_set_to_the_current_mode_succeeds_without_an_effect_on_the_gpu(client, world):
    assert client.set_only(world.gpus[0], rpc.ENABLED) == rpc.SUCCESS
    gpu = world.sim.gpu(world.gpus[0])
    assert (gpu["initialisations"], gpu["teardowns"]) == (1, 0)


@pytest.mark.both_backends
@pytest.mark.parametrize("status", [rpc.OFFLINE, rpc.ONLINE])
def test_set_numa_status_of_a_gpu_without_numa_memory_succeeds_and_does_not_change_the_mode(client, world, status):
    assert client.set_numa(world.gpus[0], status) == rpc.SUCCESS
    assert client.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)


@pytest.mark.parametrize("method", ["set", "set_only", "set_numa"])
def test_set_of_an_unknown_device_is_device_not_found(client, method):
    assert getattr(client, method)(NOWHERE, 1) == rpc.DEVICE_NOT_FOUND


@pytest.mark.parametrize("value", [2, 7, -1, 0x7FFFFFFF])
@pytest.mark.parametrize("method", ["set", "set_only", "set_numa"])
def test_a_value_out_of_range_is_invalid_argument_and_changes_nothing(client, world, method, value):
    assert getattr(client, method)(world.gpus[0], value) == rpc.INVALID_ARGUMENT
    assert client.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)


@pytest.mark.parametrize("method", ["set", "set_only", "set_numa"])
def test_a_set_by_an_ordinary_user_is_refused_and_changes_nothing(daemon, world, method):
    assert daemon.call_as_nobody(method, world.gpus[0], 0) == str(rpc.PERMISSIONS)
    assert daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)


def test_the_refusal_of_an_ordinary_user_does_not_reveal_which_devices_exist(daemon):
    assert daemon.call_as_nobody("set_only", NOWHERE, 0) == str(rpc.PERMISSIONS)


def test_any_user_may_get_and_call_null(daemon, world):
    assert daemon.call_as_nobody("get", world.gpus[0]) == str((rpc.SUCCESS, rpc.ENABLED))
    assert daemon.call_as_nobody("null", 1) == "[]"


def test_a_claim_to_be_root_in_the_credentials_has_no_effect(daemon, world):
    root = (1, rpc.words(0) + rpc.opaque(b"host") + rpc.words(0, 0, 0))
    source = f"call(2, {rpc.V2_SET_ONLY}, device({world.gpus[0]!r}) + words(0), cred={root!r}).results"
    assert daemon.eval_as_nobody(source) == str([rpc.PERMISSIONS])
    assert daemon.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)


# ---- rejections


@pytest.mark.holdfast_only("libtirpc's server hangs up")
@pytest.mark.parametrize("rpc_version", [0, 1, 3, 0xFFFFFFFF])
def test_another_rpc_version_is_denied_and_the_supported_one_is_reported(client, rpc_version):
    reply = client.call(1, rpc.V1_GET, rpc.device(NOWHERE), rpc_version=rpc_version)
    assert (reply.reply_status, reply.results) == (rpc.DENIED, [rpc.RPC_MISMATCH, 2, 2])


@pytest.mark.parametrize("program", [0, 35005, 35007, 100000])
def test_another_program_is_unavailable(client, program):
    reply = client.call(1, rpc.NULL, program=program)
    assert (reply.accept_status, reply.results) == (rpc.PROG_UNAVAIL, [])


@pytest.mark.parametrize("version", [0, 3, 0xFFFFFFFF])
def test_another_program_version_is_a_mismatch_that_reports_the_lowest_and_highest(client, version):
    reply = client.call(version, rpc.NULL)
    assert (reply.accept_status, reply.results) == (rpc.PROG_MISMATCH, [1, 2])


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("procedure", [3, 0xFFFFFFFF])
def test_another_procedure_is_unavailable(client, version, procedure):
    reply = client.call(version, procedure, bytes(20))
    assert (reply.accept_status, reply.results) == (rpc.PROC_UNAVAIL, [])


CALLS = {
    "v1 Set": (1, rpc.V1_SET, 20),
    "v1 Get": (1, rpc.V1_GET, 16),
    "v2 SetOnly": (2, rpc.V2_SET_ONLY, 20),
    "v2 SetNuma": (2, rpc.V2_SET_NUMA, 20),
}


@pytest.mark.parametrize("name", CALLS)
def test_arguments_cut_short_anywhere_are_garbage(client, world, name):
    version, procedure, size = CALLS[name]
    args = rpc.device(world.gpus[0]) + rpc.words(1)
    for length in range(size):
        reply = client.call(version, procedure, args[:length])
        assert (reply.accept_status, reply.results) == (rpc.GARBAGE_ARGS, []), f"{length} of {size} bytes"


def test_after_a_rejection_the_connection_remains_usable(client, world):
    client.call(9, rpc.NULL)
    client.call(1, 99)
    client.call(1, rpc.V1_GET, b"")
    client.call(1, rpc.NULL, program=1)
    assert client.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)


# ---- how bytes may arrive


@pytest.mark.parametrize("count", [1, 4, 400])
def test_trailing_bytes_after_the_arguments_are_tolerated(client, world, count):
    reply = client.call(1, rpc.V1_GET, rpc.device(world.gpus[0]) + bytes([0xA5]) * count)
    assert reply.results == [rpc.SUCCESS, rpc.ENABLED]


denied_by_libtirpc = pytest.mark.holdfast_only("libtirpc's server denies all flavours but AUTH_NONE and AUTH_SYS")

AUTH_SYS = (1, rpc.words(123456) + rpc.opaque(b"node-17.cluster") + rpc.words(1000, 1000, 2, 4, 27))


@pytest.mark.parametrize("cred", [
    AUTH_SYS,
    pytest.param((2, bytes(12)), marks=denied_by_libtirpc),
    pytest.param((99, b"abc"), marks=denied_by_libtirpc),
    pytest.param((6, bytes(400)), marks=denied_by_libtirpc),
], ids=["AUTH_SYS", "AUTH_SHORT", "unknown", "400 bytes"])
def test_credentials_of_other_flavours_are_accepted_and_ignored(client, world, cred):
    reply = client.call(1, rpc.V1_GET, rpc.device(world.gpus[0]), cred=cred)
    assert reply.is_success and reply.results == [rpc.SUCCESS, rpc.ENABLED]


@pytest.mark.holdfast_only("libtirpc's server checks verifiers differently")
def test_a_verifier_of_any_flavour_is_ignored(client, world):
    reply = client.call(1, rpc.V1_GET, rpc.device(world.gpus[0]), cred=AUTH_SYS, verf=(5, b"x" * 33))
    assert reply.is_success and reply.results == [rpc.SUCCESS, rpc.ENABLED]


def get_record(address, **how):
    return rpc.record(rpc.call_message(1, rpc.V1_GET, rpc.device(address)), **how)


@pytest.mark.parametrize("fragment_size", [1, 3, 4, 28, 55])
def test_a_record_of_several_fragments_is_one_call(client, world, fragment_size):
    client.send(get_record(world.gpus[0], fragment_size=fragment_size))
    assert client.receive().results == [rpc.SUCCESS, rpc.ENABLED]


@pytest.mark.holdfast_only("libtirpc's server ends the connection at an empty fragment")
def test_empty_fragments_within_a_record_are_legal(client, world):
    message = rpc.call_message(1, rpc.V1_GET, rpc.device(world.gpus[0]))
    client.send(rpc.words(0) + rpc.words(20) + message[:20] + rpc.words(0) + rpc.record(message[20:]))
    assert client.receive().results == [rpc.SUCCESS, rpc.ENABLED]


def test_a_record_split_at_any_byte_is_one_call(client, world):
    data = get_record(world.gpus[0])
    for at in range(1, len(data)):
        client.send_until_taken(data[:at])
        client.send(data[at:])
        assert client.receive().results == [rpc.SUCCESS, rpc.ENABLED], f"split at byte {at}"


def test_a_record_sent_byte_by_byte_is_one_call(client, world):
    for byte in get_record(world.gpus[0]):
        client.send_until_taken(bytes([byte]))
    assert client.receive().results == [rpc.SUCCESS, rpc.ENABLED]


def test_several_records_in_one_write_are_answered_in_order(client, world):
    count = 50
    messages = [rpc.call_message(1, rpc.V1_GET, rpc.device(world.gpus[number % 2]), xid=1000 + number)
                for number in range(count)]
    client.send(b"".join(map(rpc.record, messages)))
    assert [client.receive().xid for _ in range(count)] == list(range(1000, 1000 + count))


def test_a_record_and_half_of_the_next_get_one_answer_and_the_rest_another(client, world):
    data = get_record(world.gpus[0])
    client.send_until_taken(data + data[:30])
    assert client.receive().results == [rpc.SUCCESS, rpc.ENABLED]
    client.send(data[30:])
    assert client.receive().results == [rpc.SUCCESS, rpc.ENABLED]


def test_calls_sent_before_the_client_shuts_down_its_side_are_answered(client, world):
    client.send(get_record(world.gpus[0]))
    client.socket.shutdown(socket.SHUT_WR)
    assert client.receive().results == [rpc.SUCCESS, rpc.ENABLED]


def test_one_connection_serves_many_calls(client, world):
    for _ in range(1000):
        assert client.get(world.gpus[0]) == (rpc.SUCCESS, rpc.ENABLED)


# ---- an independent client


PEER_CALLS = [
    ("null1", None, "status=0"),
    ("null2", None, "status=0"),
    ("get", None, "status=0 mode=1"),
    ("set-only", "0", "status=0"),
    ("get", None, "status=0 mode=0"),
    ("set-only", "1", "status=0"),
    ("get", None, "status=0 mode=1"),
    ("set", "0", "status=0"),
    ("get", None, "status=0 mode=0"),
    ("set", "1", "status=0"),
    ("set-numa", "1", "status=0"),
    ("get", None, "status=0 mode=1"),
]


@pytest.mark.both_backends
def test_a_client_made_with_rpcgen_and_libtirpc_can_call_every_procedure(daemon, world, peer):
    for procedure, value, expected in PEER_CALLS:
        arguments = [] if procedure.startswith("null") else [world.gpus[0], *([value] if value else [])]
        done = subprocess.run([peer, daemon.socket_path, procedure, *arguments], capture_output=True, text=True,
                              timeout=30, check=False)
        assert done.returncode == 0, f"{procedure} {value}: {done.stderr}"
        assert done.stdout.startswith(expected), f"{procedure} {value}: {done.stdout}"
