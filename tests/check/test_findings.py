"""What is concluded from what ranks have seen and measured; no rank is started."""

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.check import machine
from headrace.check.facts import Device, Extensions, Facts, Limits, Network, Threads
from headrace.check.finding import (
    Finding,
    Kind,
    exit_code,
    faulty_nodes,
    missing,
    numbered,
    places,
)
from headrace.check.measured import (
    FolderSeen,
    Measured,
    all_of,
    from_data,
    of_bandwidth,
    of_clocks,
    of_folder,
    slow_ones,
)
from headrace.errors import Problem

GOOD = FolderSeen(0.1, None, locks_apart=False, free_bytes=10**12)


def rank(number, host, **changes):
    """A rank that has nothing wrong."""
    facts = Facts(
        rank=number,
        local_rank=number % 2,
        host=host,
        versions={"torch": "2.13.0", "headrace": "0.1.0"},
        device=Device("cpu"),
        network=Network({"lo": True, "eth0": True, "ib0": False}, "eth0", "10.0.0.1", {}),
        limits=Limits(1 << 20, -1, 64 << 30, 64 << 30, has_infiniband=False),
        threads=Threads((2 * number, 2 * number + 1), {}, None),
        extensions=Extensions("/ext", ("deepspeed_shm_comm",), {}, None, has_compiler=True),
    )
    return replace(facts, **changes)


def four(change=None, at=(3,)):
    """Two ranks on each of two nodes, some of which are changed."""
    ranks = [rank(number, f"n{number // 2 + 1}") for number in range(4)]
    return [change(each) if change and each.rank in at else each for each in ranks]


def gpu(number=0, **changes):
    base = Device(
        "cuda", number, 2, 2, "V100", (7, 0), True, 31 << 30, 32 << 30, f"GPU-{number}", 0
    )
    return replace(base, **changes)


def on_gpus(**changes):
    """Four ranks on the four GPUs of two nodes; the last one is changed."""
    ranks = [replace(each, device=gpu(each.local_rank)) for each in four()]
    return [*ranks[:3], replace(ranks[3], device=replace(ranks[3].device, **changes))]


def only(findings):
    (finding,) = findings
    return finding.kind, str(finding)


def test_nothing_is_found_where_nothing_is_wrong():
    assert machine.of_machines(four()) == []
    assert machine.of_machines(on_gpus()) == []
    measured = {each.rank: Measured(skew=(0.1, 0.01), folder=GOOD, links=1.0) for each in four()}
    assert all_of(four(), measured) == []


def test_a_rank_with_another_version_is_named_with_its_host():
    kind, text = only(machine.of_machines(four(lambda f: replace(f, versions={
        **f.versions, "torch": "2.10.0",
    }))))  # fmt: skip
    assert kind is Kind.MISTAKE
    assert "n2 (rank 3): torch is not 2.13.0, as elsewhere (value: 2.10.0)" in text


def test_of_two_versions_that_are_equally_many_that_of_rank_0_is_right():
    ranks = four(lambda f: replace(f, versions={"torch": "2.13.0"}), at=(2, 3))
    assert "n2 (ranks 2-3): headrace is not 0.1.0" in str(only(machine.of_versions(ranks)))


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        ({"kind": "cpu", "capability": None}, Kind.FAULT, "torch sees no GPU here"),
        ({"index": 2}, Kind.FAULT, "more ranks than GPUs (value: 2 GPUs)"),
        ({"uuid": "GPU-0"}, Kind.MISTAKE, "share one GPU"),
        ({"has_kernels": False}, Kind.MISTAKE, "V100, compute capability 7.0"),
        ({"free_bytes": 9 << 30}, Kind.FAULT, "9.7 of 34.4 GB free"),
        ({"name": "A100", "capability": (8, 0)}, Kind.WARNING, "other GPUs than V100"),
    ],
)
def test_gpus_that_are_not_as_they_should_be(changes, kind, says):
    found = only(machine.of_devices(on_gpus(**changes)))
    assert found[0] is kind
    assert "n2 (" in found[1]
    assert says in found[1]


def test_gpus_that_torch_does_not_see():
    ranks = four(lambda f: replace(f, device=Device("cpu", installed=4)), at=range(4))
    assert "--gres=gpu" in only(machine.of_devices(ranks))[1]


@pytest.mark.parametrize(
    ("variable", "value", "is_there"),
    [
        ("GLOO_SOCKET_IFNAME", "eth0", True),
        ("GLOO_SOCKET_IFNAME", "eth", False),
        ("GLOO_SOCKET_IFNAME", "ib0", False),
        ("GLOO_SOCKET_IFNAME", "lo,eth0", True),
        ("NCCL_SOCKET_IFNAME", "eth", True),
        ("NCCL_SOCKET_IFNAME", "=eth", False),
        ("NCCL_SOCKET_IFNAME", "=eth0", True),
        ("NCCL_SOCKET_IFNAME", "ib,eth1", False),
        ("NCCL_SOCKET_IFNAME", "^lo", True),
        ("NCCL_SOCKET_IFNAME", "^lo,eth", False),
    ],
)
def test_interfaces_that_are_asked_for_have_to_be_up(variable, value, is_there):
    ranks = four(
        lambda f: replace(f, network=replace(f.network, chosen={variable: value})), at=range(4)
    )
    found = list(machine.of_networks(ranks))
    if variable == "NCCL_SOCKET_IFNAME":  # the name of the node is another matter
        found = [finding for finding in found if variable in str(finding)]
    assert [finding.kind for finding in found] == ([] if is_there else [Kind.MISTAKE])
    if not is_there:
        assert "rank 0 is reached by eth0" in str(found[0])


@pytest.mark.parametrize("address", [None, "127.0.1.1"])
def test_a_node_whose_name_leads_to_itself_alone(address):
    changed = four(lambda f: replace(f, network=replace(f.network, own_address=address)), (2, 3))
    kind, text = only(machine.of_networks(changed))
    assert kind is Kind.FAULT
    assert "Set GLOO_SOCKET_IFNAME=eth0 in the site profile" in text
    alone = [replace(each, host="n1") for each in changed]
    assert list(machine.of_networks(alone)) == [], "on one node it is of no account"


def test_threads_that_get_in_each_others_way():
    shared = Threads((0, 1, 2, 3), {"0": 0, "1": 0, "2": 1, "3": 1}, "4")
    found = [str(each) for each in machine.of_threads(
        four(lambda f: replace(f, threads=shared), at=(2, 3))
    )]  # fmt: skip
    assert (
        "n2 (ranks 2-3): more threads than CPUs (value: OMP_NUM_THREADS: 8 in all, 4 CPUs)"
        in (found[0])
    )
    assert "n2 (ranks 2-3): ranks share the CPUs of several NUMA nodes" in found[1]
    single = four(lambda f: replace(f, threads=Threads((5,), {}, None)))
    assert "n2 (rank 3): a single CPU" in only(machine.of_threads(single))[1]
    far = [replace(each, threads=Threads((0, 1), {"0": 1, "1": 1}, None)) for each in on_gpus()[:1]]
    assert "another NUMA node" in only(machine.of_threads(far))[1]


def test_limits_under_which_jobs_fail_late():
    def with_limits(**changes):
        return four(lambda f: replace(f, limits=replace(f.limits, **changes)), at=(2, 3))

    assert "n2 (rank 2): few files" in only(machine.of_limits(with_limits(open_files=1024)))[1]
    kind, text = only(machine.of_limits(with_limits(shared_bytes=64 << 20, shared_free_bytes=0)))
    assert (kind, "/dev/shm is too full or too small" in text) == (Kind.FAULT, True)
    small = with_limits(shared_bytes=512 << 20, shared_free_bytes=512 << 20)
    assert only(machine.of_limits(small))[0] is Kind.WARNING
    locked = [
        replace(each, limits=replace(each.limits, locked_bytes=65536, has_infiniband=True))
        for each in on_gpus()
    ]
    assert "LimitMEMLOCK" in only(machine.of_limits(locked))[1]


def test_extensions_that_are_not_ready():
    def with_extensions(at=(2, 3), **changes):
        changed = four(lambda f: replace(f, extensions=replace(f.extensions, **changes)), at=at)
        return only(machine.of_extensions(changed))

    kind, text = with_extensions(error="undefined symbol: x")
    assert (kind, "undefined symbol" in text) == (Kind.FAULT, True)
    assert with_extensions(at=range(4), error="undefined symbol: x")[0] is Kind.MISTAKE
    assert "not compiled here" in with_extensions(built=())[1]
    assert "headrace.training.extensions" in with_extensions(at=range(4), built=())[1]
    assert "/ext/fused_adam/lock" in with_extensions(locks={"fused_adam": 4000.0})[1]
    assert machine.of_machines(four(lambda f: replace(f, extensions=replace(
        f.extensions, locks={"fused_adam": 3.0, "deepspeed_shm_comm": 4000.0}
    )))) == [], "one is being built, the other is removed by training"  # fmt: skip


def test_clocks_are_compared_with_regard_to_what_is_not_known():
    measured = {number: Measured() for number in range(4)}
    measured[2] = Measured(skew=(-4.0, 3.5))
    assert list(of_clocks(four(), measured)) == []
    measured[2] = Measured(skew=(-4.0, 0.5))
    kind, text = only(of_clocks(four(), measured))
    assert kind is Kind.WARNING
    assert "n2 (rank 2): the clock is behind that of rank 0 (value: 4.0 seconds)" in text
    measured[2] = Measured(skew=(4000.0, 0.5))
    assert only(of_clocks(four(), measured))[0] is Kind.FAULT


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        ({"seconds": None}, Kind.MISTAKE, "a file that rank 0 wrote is not seen"),
        ({"seconds": 9.0}, Kind.WARNING, "seen late (value: 9.0 seconds)"),
        ({"problem": ("it cannot be written to", "No space")}, Kind.FAULT, "No space"),
        ({"locks_apart": True}, Kind.WARNING, "flock"),
        ({"free_bytes": 10**9}, Kind.WARNING, "1.0 GB"),
    ],
)
def test_a_folder_that_is_not_as_it_should_be(changes, kind, says):
    measured = {number: Measured(folder=GOOD if number in (0, 2) else None) for number in range(4)}
    measured[2] = Measured(folder=replace(GOOD, **changes))
    found = only(of_folder(four(), measured))
    assert found[0] is kind
    assert "n2 (rank 2)" in found[1]
    assert says in found[1]


def test_a_node_that_is_slow_is_named():
    nodes = [rank(number, f"n{number}") for number in range(5)]
    measured = {number: Measured(links=10.0 + number, node=50.0) for number in range(5)}
    assert list(of_bandwidth(nodes, measured)) == []
    measured[3].links = 6.0
    assert "n3 (rank 3): the node is slow to other nodes" in only(of_bandwidth(nodes, measured))[1]
    measured[3].links, measured[1].node = 13.0, 20.0
    assert "n1 (rank 1): the node is slow among" in only(of_bandwidth(nodes, measured))[1]


@given(st.lists(st.floats(0.01, 1000), min_size=1, max_size=9))
def test_less_than_half_of_the_nodes_are_slow(rates):
    slow = slow_ones(dict(enumerate(rates)))
    assert len(slow) <= len(rates) / 2
    assert rates.index(max(rates)) not in slow


def test_ranks_that_are_missing_are_named_with_the_node_that_should_have_them():
    finding = missing([4, 5, 6, 9], ["n2", "n2", "n2", None], 30.0)
    text = str(finding)
    assert finding.kind is Kind.FAULT
    assert "n2 (ranks 4-6), a node that is not known (rank 9): not there after 30 seconds" in text
    assert "--sbatch=--exclude=n2" in text


@given(st.sets(st.integers(0, 40), min_size=1))
def test_ranks_in_words_are_these_ranks(ranks):
    words = numbered(ranks).split(" ", 1)[1]
    read = [
        number
        for part in words.split(", ")
        for number in range(int(part.split("-")[0]), int(part.split("-")[-1]) + 1)
    ]
    assert read == sorted(ranks)


def test_many_hosts_are_counted():
    assert places([rank(n, f"n{n}") for n in range(12)]).endswith("n7 (rank 7) and 4 more")


def test_the_exit_code_says_who_can_do_something():
    findings = {
        kind: missing([1], [None], 1.0).__class__(kind, missing([1], [None], 1.0).problem, ())
        for kind in Kind
    }
    assert exit_code([]) == 0
    assert exit_code([findings[Kind.WARNING]]) == 0
    assert exit_code([findings[Kind.WARNING], findings[Kind.FAULT]]) == 1
    for pair in combinations(Kind, 2):
        if Kind.MISTAKE in pair:
            assert exit_code([findings[kind] for kind in pair]) == 2


def test_what_travels_between_ranks_arrives_as_it_was():
    import json
    from dataclasses import asdict

    facts = on_gpus()[0]
    assert Facts.from_data(json.loads(facts.to_json())) == facts
    measured = Measured((1.0, 0.1), replace(GOOD, problem=("a", "b")), [{"what": "x"}])
    assert from_data(json.loads(json.dumps(asdict(measured)))) == measured


def finding(kind, *ranks):
    return Finding(kind, Problem("something", "somewhere"), ranks)


NODES = ["n1", "n1", "n2", "n2", "n3", "n3", "n4", "n4"]


@pytest.mark.parametrize(
    ("findings", "hosts", "faulty"),
    [
        ([], NODES, ()),
        ([finding(Kind.FAULT, 5)], NODES, ("n3",)),
        ([finding(Kind.FAULT, 7), finding(Kind.FAULT, 2, 3)], NODES, ("n2", "n4")),
        ([finding(Kind.WARNING, 5), finding(Kind.MISTAKE, 2)], NODES, ()),
        ([finding(Kind.FAULT, 2, 3, 4, 5, 6, 7)], NODES, ()),  # nobody reaches n1
        ([finding(Kind.FAULT, 0)], ["n1"], ()),
        ([finding(Kind.FAULT, 1)], ["n1", "n2"], ("n2",)),
        ([finding(Kind.FAULT, 1)], [None, None], ()),
    ],
)
def test_a_job_is_to_do_without_the_nodes_that_faults_name(findings, hosts, faulty):
    assert faulty_nodes(findings, hosts) == faulty
