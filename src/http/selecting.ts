import type { IncomingHttpHeaders } from 'node:http';
import type { SelectionInput } from '../upstream/selection.ts';
import type { Exchange } from './exchange.ts';

/** The parts of a request that can select an upstream. @param name the repository as the client wrote it; `undefined` for none */
export function selectionInput<Name extends string | undefined>(
  { query }: Pick<Exchange, 'query'>,
  { headers, name }: { readonly headers: IncomingHttpHeaders; readonly name: Name },
): SelectionInput & { readonly name: Name } {
  const { host, 'oci-ref-name': refName } = headers;
  const parameters = query === '' ? undefined : new URLSearchParams(query);
  return {
    name,
    nsValues: parameters?.getAll('ns') ?? [],
    refNameValues: [...headerValues(refName), ...(parameters?.getAll('oci-ref-name') ?? [])],
    host,
  };
}

// Node joins a header that was sent several times with commas, which no image name has.
function headerValues(header: string | string[] | undefined): string[] {
  if (header === undefined) return [];
  return (Array.isArray(header) ? header.join(',') : header).split(',').map((value) => value.trim());
}
