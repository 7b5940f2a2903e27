"""Metrics end to end: valid for Prometheus's own checks, streamed on COM2, bridged, scraped and queried."""
import json
import os
import re
import subprocess
import sys
import urllib.request

import pytest

from aerostat import TOP, emu, vm_section

RULES = os.path.join(TOP, "tools", "prometheus")


def promtool(*args, text=None):
    """Prometheus's own verdict; a complaint fails the test."""
    done = subprocess.run(["promtool", *args], input=text, text=True, capture_output=True, check=False)
    assert done.returncode == 0, (args, done.stdout, done.stderr)


def value(text, sample):
    return float(re.search(rf"^{re.escape(sample)} (\S+)$", text, re.M).group(1))


def get(url):
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read().decode()


def start(command, **options):
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, **options)


@pytest.fixture
def streaming(machine, tmp_path):
    """A machine at rest that streams each second, its COM2 on a socket."""
    path = str(tmp_path / "com2")
    m = machine(config="[host]\nmetrics-interval = 1\n\n" + vm_section("a", 32, "app=idle mem=20%", disk="32M"), mem=256,
                extra=["-chardev", f"socket,id=com2,path={path},server=on,wait=off", "-serial", "chardev:com2"]).boot()
    m.ok("balloon a 4M")
    m.wait_for(lambda: m.mem("a")["ballooned"] == 1024, 60)
    m.ok("set share-rate 0")
    m.ok("vm pause a")
    m.wait_sampled()
    return m, path


def test_metrics_say_what_mem_says(streaming):
    m, _ = streaming
    text = m.ok("metrics")
    promtool("check", "metrics", text=text)
    shown, host = m.mem("a"), m.host()
    assert text.rstrip().endswith("# EOF")
    assert value(text, 'aerostat_vm_balloon_bytes{vm="a"}') == 4 << 20 == shown["ballooned"] * 4096
    assert value(text, 'aerostat_vm_memory_consumed_bytes{vm="a"}') == shown["consumed"] * 4096
    assert value(text, "aerostat_swap_out_pages_total") == host["swap-out"]
    promtool("check", "rules", os.path.join(RULES, "alerts.yml"))
    with open(os.path.join(RULES, "grafana-dashboard.json"), encoding="utf-8") as dashboard:
        names = set(re.findall(r"aerostat_\w+", json.dumps(json.load(dashboard)["panels"])))
    assert names and all(f"# TYPE {name} " in text for name in names), names


@pytest.mark.takes(30)
def test_prometheus_scrapes_the_bridge(streaming, tmp_path):
    m, path = streaming
    bridge = start([sys.executable, os.path.join(TOP, "tools", "bridge.py"), f"unix:{path}", "--port", "0"])
    prometheus = None
    try:
        url = re.search(r"http://\S+", bridge.stdout.readline()).group(0)

        def answered():
            """the bridge has a whole stream"""
            try:
                return get(url)
            except OSError:
                return None

        promtool("check", "metrics", text=m.wait_for(answered, 60))
        config = tmp_path / "prometheus.yml"
        config.write_text("scrape_configs:\n- job_name: aerostat\n  scrape_interval: 1s\n  static_configs:\n"
                          f"  - targets: ['{url.split('/')[2]}']\n", encoding="utf-8")
        port = emu.free_port()
        prometheus = start(["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                            f"--web.listen-address=127.0.0.1:{port}"])

        def balloon():
            """a query returns the balloon's size"""
            try:
                answer = json.loads(get(f"http://127.0.0.1:{port}/api/v1/query?query=aerostat_vm_balloon_bytes"))
            except OSError:
                return None
            result = answer["data"]["result"]
            return result and int(result[0]["value"][1])

        assert m.wait_for(balloon, 120) == 4 << 20
    finally:
        for process in (bridge, prometheus):
            if process:
                process.kill()
                process.wait()
                process.stdout.close()
