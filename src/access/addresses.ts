import ipaddr from 'ipaddr.js';

/** @param ranges addresses, and ranges in CIDR notation; none: every address passes */
export function addressTest(ranges: readonly string[]): (address: string) => boolean {
  if (ranges.length === 0) return () => true;
  const parsed = ranges.map((text): [ipaddr.IPv4 | ipaddr.IPv6, number] => {
    if (text.includes('/')) return ipaddr.parseCIDR(text);
    const address = ipaddr.process(text);
    return [address, address.kind() === 'ipv4' ? 32 : 128];
  });
  return (address) => {
    const [unscoped = ''] = address.split('%', 1);
    if (!ipaddr.isValid(unscoped)) return false;
    const one = ipaddr.process(unscoped);
    return parsed.some(([network, bits]) => network.kind() === one.kind() && one.match(network, bits));
  };
}
