import { expect, test } from 'vitest';
import { Proxies, proxyInWords } from '../../src/transport/proxies.ts';

const proxy = 'http://proxy.example:3128';

/** How a URL is reached, in words. */
function way(url: string, environment: Record<string, string>): string {
  return proxyInWords(new Proxies(environment).for(new URL(url))) ?? 'direct';
}

test.each<[string, Record<string, string>, string]>([
  ['http://a.example/', { http_proxy: proxy }, proxy],
  ['http://a.example/', { HTTP_PROXY: proxy }, proxy],
  ['http://a.example/', { http_proxy: proxy, HTTP_PROXY: 'http://other:1' }, proxy],
  ['http://a.example/', { http_proxy: '', HTTP_PROXY: proxy }, proxy],
  ['http://a.example/', { https_proxy: proxy }, 'direct'],
  ['https://a.example/', { https_proxy: proxy }, proxy],
  ['https://a.example/', { http_proxy: proxy }, 'direct'],
  ['https://a.example/', { all_proxy: proxy }, proxy],
  ['http://a.example/', { ALL_PROXY: proxy }, proxy],
  ['http://a.example/', { http_proxy: 'proxy.example:3128' }, proxy],
  ['http://a.example/', { http_proxy: '10.0.0.1:3128' }, 'http://10.0.0.1:3128'],
  ['http://a.example/', { http_proxy: 'http://user:secret@proxy.example:3128' }, proxy],
  ['https://a.example/', { https_proxy: 'socks5://proxy.example' }, 'socks5://proxy.example'],
  ['https://a.example/', { https_proxy: 'socks5h://proxy.example:1081' }, 'socks5h://proxy.example:1081'],
  ['https://a.example/', { https_proxy: 'https://proxy.example' }, 'https://proxy.example'],
])('%s with %j goes by %s', (url, environment, expected) => {
  expect(way(url, environment)).toBe(expected);
});

test.each(['socks4://proxy.example', 'ftp://proxy.example', 'http://', 'http://a b', '://x'])(
  'the proxy %s is refused, and its text is not repeated',
  (value) => {
    expect(() => new Proxies({ HTTPS_PROXY: value })).toThrow(/^HTTPS_PROXY is not the address of a proxy/);
  },
);

test.each<[string, string, boolean]>([
  ['http://127.0.0.1:5000/', '127.0.0.0/8', true],
  ['http://128.0.0.1/', '127.0.0.0/8', false],
  ['http://10.1.2.3/', 'localhost,127.0.0.0/8,10.0.0.0/8', true],
  ['http://[fd00::5]/', 'fd00::/8', true],
  ['http://[fe00::5]/', 'fd00::/8', false],
  ['http://10.0.0.1/', '10.0.0.1', true],
  ['http://10.0.0.1:5000/', '10.0.0.1:5000', true],
  ['http://10.0.0.1/', '10.0.0.1:5000', false],
  ['http://10.0.0.1/', '10.0.0.1:80', true],
  ['https://10.0.0.1/', '10.0.0.1:443', true],
  ['http://[::1]:5000/', '[::1]:5000', true],
  ['http://[::1]/', '::1', true],
  ['http://[::ffff:10.0.0.1]/', '10.0.0.1', true],
  ['http://a.example/', '*', true],
  ['http://10.0.0.1/', '*', true],
  ['http://a.example/', 'a.example', true],
  ['http://b.a.example/', 'a.example', true],
  ['http://ba.example/', 'a.example', false],
  ['http://b.a.example/', '.a.example', true],
  ['http://a.example/', '.a.example', true],
  ['http://b.a.example/', '*.a.example', true],
  ['http://A.Example./', 'a.example', true],
  ['http://a.example:5000/', 'a.example:5000', true],
  ['http://a.example/', 'a.example:5000', false],
  ['http://a.example/', ' b.example , a.example ', true],
  ['http://a.example/', 'b.example a.example', true],
  ['http://a.example/', 'example/24', false],
  ['http://10.example/', '10.0.0.0/8', false],
  ['http://a.example/', '', false],
])('%s with NO_PROXY=%s is reached directly: %s', (url, exceptions, isDirect) => {
  expect(way(url, { http_proxy: proxy, https_proxy: proxy, NO_PROXY: exceptions })).toBe(isDirect ? 'direct' : proxy);
});
