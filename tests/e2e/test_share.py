"""Sharing: within a trust group only, but for zero pages."""
from aerostat import vm_section


def test_groups_share_and_strangers_do_not(machine):
    app = "app=idle mem=60% zero=20% same=60%"
    config = "[host]\nmin-free = 64M\n" + "".join(
        vm_section(name, 16, app, disk=None, **keys)
        for name, keys in {"a": {"share_group": "friends"}, "b": {"share_group": "friends"},
                           "c": {"share_group": "others"}, "d": {}}.items())
    m = machine(config=config, mem=224).boot()
    for name in "abcd":
        m.wait_state(name, "running")

    def friends_share():
        """a and b share most of what is the same in all four, and everybody's zero pages are shared"""
        seen = {name: m.mem(name) for name in "abcd"}
        # A few pages of a VM are equal among themselves: nothing beside what friends have in common.
        assert max(seen["c"]["shared"], seen["d"]["shared"]) < 100, seen
        return min(seen["a"]["shared"], seen["b"]["shared"]) > 1000 and min(v["zero"] for v in seen.values()) > 300

    m.wait_for(friends_share, 180)
    m.run_for(5)
    assert friends_share()
    assert m.show("a")["share-group"] == "friends" and m.show("d")["share-group"] == "-"
    m.check()
