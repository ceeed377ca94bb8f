/** The path of an endpoint's URL without slashes at its end: '' for the root. */
export function endpointPath({ pathname }: URL): string {
  let end = pathname.length;
  while (pathname[end - 1] === '/') end -= 1;
  return pathname.slice(0, end);
}
