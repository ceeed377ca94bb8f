import ipaddr from 'ipaddr.js';

/** @param ranges addresses, and ranges in CIDR notation; none: every address passes */
export function addressTest(ranges: readonly string[]): (address: string) => boolean {
  if (ranges.length === 0) return () => true;
  const parsed = ranges.map(rangeOf);
  return (address) => {
    const [unscoped = ''] = withoutDots(address).split('%', 1);
    if (!ipaddr.isValid(unscoped)) return false;
    const one = ipaddr.process(unscoped);
    return parsed.some(([network, bits]) => network.kind() === one.kind() && one.match(network, bits));
  };
}

/** A range of IPv4 addresses as IPv6 writes them (`::ffff:10.0.0.0/104`) means the same as `10.0.0.0/8`. */
function rangeOf(text: string): [ipaddr.IPv4 | ipaddr.IPv6, number] {
  const [address = '', bits] = text.split('/');
  const network = ipaddr.parse(address);
  const length = bits === undefined ? (network.kind() === 'ipv4' ? 32 : 128) : Number(bits);
  const isMapped = network instanceof ipaddr.IPv6 && network.isIPv4MappedAddress();
  return isMapped && length >= 96 ? [network.toIPv4Address(), length - 96] : [network, length];
}

/** An address of `::/96` as IPv6 alone: systems write it as `::10.0.0.1`, which is no address of IPv4. */
function withoutDots(address: string): string {
  const [, ...bytes] = /^::(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(address) ?? [];
  const [a = 0, b = 0, c = 0, d = 0] = bytes.map(Number);
  return bytes.length === 0 ? address : `::${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`;
}
