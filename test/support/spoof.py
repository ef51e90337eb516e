"""Sends every forgery that a guest can think of out of eth0; probe N has TCP source port 20000+N where it has one.
Prints one line for each: N, whether it may reach the proxy as this guest's own, what it is."""
import sys

from scapy.all import ARP, ICMP, UDP, Dot1Q, Ether, ICMPv6ND_NS, IP, IPv6, IPOption_LSRR
from scapy.all import IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting
from scapy.all import ICMPv6NDOptSrcLLAddr, IPOption_NOP, Raw, TCP, fragment, sendp

own_ip, own_mac, victim_ll, victim_mac, own_ip6 = sys.argv[1:6]
MD, MD6, MDMAC = "169.254.169.254", "fe80::a9fe:a9fe", "02:a9:fe:a9:fe:01"
probes = []


def tcp(n, dport=80):
    return TCP(sport=20000 + n, dport=dport, flags="S", seq=1)


def add(may, what, make):
    n = len(probes)
    made = make(n)
    probes.append((n, may, what, made if isinstance(made, list) else [made]))


def e(src=own_mac, dst=MDMAC):
    return Ether(src=src, dst=dst)


add(True, "honest", lambda n: e() / IP(src=own_ip, dst=MD) / tcp(n))
add(True, "to a random MAC", lambda n: e(dst="52:54:00:12:34:56") / IP(src=own_ip, dst=MD) / tcp(n))
add(True, "to the broadcast MAC", lambda n: e(dst="ff:ff:ff:ff:ff:ff") / IP(src=own_ip, dst=MD) / tcp(n))
add(True, "from the victim's MAC", lambda n: e(src=victim_mac) / IP(src=own_ip, dst=MD) / tcp(n))
add(False, "as the victim's link-local address", lambda n: e() / IP(src=victim_ll, dst=MD) / tcp(n))
add(False, "the same, straight to 9697", lambda n: e() / IP(src=victim_ll, dst=MD) / tcp(n, 9697))
add(False, "straight to 9697", lambda n: e() / IP(src=own_ip, dst=MD) / tcp(n, 9697))
add(False, "to ssh", lambda n: e() / IP(src=own_ip, dst=MD) / tcp(n, 22))
add(False, "from another address", lambda n: e() / IP(src="10.0.0.99", dst=MD) / tcp(n))
add(False, "from the metadata address", lambda n: e() / IP(src=MD, dst=MD) / tcp(n))
add(False, "from 0.0.0.0", lambda n: e() / IP(src="0.0.0.0", dst=MD) / tcp(n))
add(False, "from 127.0.0.1", lambda n: e() / IP(src="127.0.0.1", dst=MD) / tcp(n))
add(False, "to the victim's link-local address", lambda n: e() / IP(src=own_ip, dst=victim_ll) / tcp(n))
add(False, "in fragments", lambda n: fragment(e() / IP(src=own_ip, dst=MD) / tcp(n) / Raw(b"x" * 64), fragsize=16))
add(False, "first fragment", lambda n: e() / IP(src=own_ip, dst=MD, flags="MF") / tcp(n))
add(False, "later fragment", lambda n: e() / IP(src=own_ip, dst=MD, frag=1) / tcp(n))
add(False, "source route", lambda n: e() / IP(src=own_ip, dst=MD, options=[IPOption_LSRR(routers=[MD])]) / tcp(n))
add(False, "no-op option", lambda n: e() / IP(src=own_ip, dst=MD, options=[IPOption_NOP()] * 4) / tcp(n))
add(False, "802.1Q", lambda n: e() / Dot1Q(vlan=7) / IP(src=own_ip, dst=MD) / tcp(n))
add(False, "priority tag", lambda n: e() / Dot1Q(vlan=0, prio=3) / IP(src=own_ip, dst=MD) / tcp(n))
add(False, "QinQ", lambda n: e() / Dot1Q(vlan=7) / Dot1Q(vlan=8) / IP(src=own_ip, dst=MD) / tcp(n))
add(False, "UDP", lambda n: e() / IP(src=own_ip, dst=MD) / UDP(sport=20000 + n, dport=80))
add(False, "ping", lambda n: e() / IP(src=own_ip, dst=MD) / ICMP())
add(False, "bridge's own MAC, 9697", lambda n: e(dst=sys.argv[6]) / IP(src=victim_ll, dst=MD) / tcp(n, 9697))
add(True, "honest IPv6", lambda n: e() / IPv6(src=own_ip6, dst=MD6) / tcp(n))
add(True, "any IPv6 link-local source", lambda n: e() / IPv6(src="fe80::dead:beef", dst=MD6) / tcp(n))
add(False, "IPv6 as the victim's twin", lambda n: e() / IPv6(src="fd69:fe00:0:1::1", dst=MD6) / tcp(n))
add(False, "the same to 9697", lambda n: e() / IPv6(src="fd69:fe00:0:1::1", dst=MD6) / tcp(n, 9697))
add(False, "IPv6 to 9697", lambda n: e() / IPv6(src=own_ip6, dst=MD6) / tcp(n, 9697))
add(False, "IPv6 from a global address", lambda n: e() / IPv6(src="2001:db8::1", dst=MD6) / tcp(n))
add(False, "IPv6 fragment", lambda n: e() / IPv6(src=own_ip6, dst=MD6) / IPv6ExtHdrFragment(m=1) / tcp(n))
add(False, "IPv6 atomic fragment", lambda n: e() / IPv6(src=own_ip6, dst=MD6) / IPv6ExtHdrFragment() / tcp(n))
add(False, "IPv6 hop-by-hop options", lambda n: e() / IPv6(src=own_ip6, dst=MD6) / IPv6ExtHdrHopByHop() / tcp(n))
add(False, "IPv6 destination options", lambda n: e() / IPv6(src=own_ip6, dst=MD6) / IPv6ExtHdrDestOpt() / tcp(n))
add(False, "IPv6 routing header", lambda n: e() / IPv6(src=own_ip6, dst=MD6) / IPv6ExtHdrRouting(addresses=[MD6]) / tcp(n))
add(False, "IPv6 tagged", lambda n: e() / Dot1Q(vlan=7) / IPv6(src=own_ip6, dst=MD6) / tcp(n))
add(False, "ARP request as the victim", lambda n: Ether(src=own_mac, dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=victim_mac, psrc=own_ip, pdst=MD))
add(False, "ARP poison", lambda n: Ether(src=own_mac, dst="ff:ff:ff:ff:ff:ff") / ARP(op=2, hwsrc=own_mac, psrc=MD, pdst=own_ip))
add(False, "NS as the victim", lambda n: Ether(src=victim_mac, dst="33:33:ff:fe:a9:fe") / IPv6(src="fe80::99", dst="ff02::1:fffe:a9fe") / ICMPv6ND_NS(tgt=MD6) / ICMPv6NDOptSrcLLAddr(lladdr=victim_mac))
add(False, "DAD probe", lambda n: Ether(src=own_mac, dst="33:33:ff:fe:a9:fe") / IPv6(src="::", dst="ff02::1:fffe:a9fe") / ICMPv6ND_NS(tgt=MD6))

for n, may, what, packets in probes:
    sendp(packets, iface="eth0", verbose=False)
    print(n, int(may), what)
