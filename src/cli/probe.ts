import type { Config } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { parseReference } from '../oci/reference.ts';
import type { ManifestReference } from '../oci/request.ts';
import { type ProbeTarget, probeUpstream } from '../operations/command/probe/probe.ts';
import type { ProbeStep } from '../operations/command/probe/steps.ts';
import { selectRepository } from '../operations/owner/administration/image-names.ts';
import { upstreamOptions } from '../site/upstream-options.ts';
import { lazyUpstream } from '../upstream/lazy-upstream.ts';
import type { RecordedExchange } from '../upstream/recorder.ts';
import { UpstreamTable } from '../upstream/table.ts';
import { addConfigFlags, type Command, type CommandIo, configFlags } from './command.ts';
import { requireImage } from './input.ts';
import { interruption } from './interruption.ts';
import { labelled } from './terminal.ts';

interface ProbeFlags {
  readonly json?: true;
  readonly verbose?: true;
}

/** `millpond probe`: walks through what a pull does at an upstream. */
export function registerProbe(program: Command, io: CommandIo): void {
  addConfigFlags(program.command('probe'))
    .description(
      'walk through all that a pull does at an upstream: names, TLS, token, manifests, blobs, ranges, limits',
    )
    .argument('<upstream>', 'a configured upstream, such as docker.io')
    .argument('[image]', 'such as library/busybox:1.37; absent: only the registry itself is tried')
    .option('--verbose', 'with every request and answer, without secrets')
    .option('--json', 'as one JSON object')
    .action(async (name: string, image: string | undefined, flags: ProbeFlags, command: Command) => {
      if (image !== undefined) requireImage(image);
      const { config } = await loadConfig({
        flags: configFlags(command),
        environment: io.environment,
        workingDirectory: io.workingDirectory,
      });
      if (config.offline) throw new Error('this mirror is offline: no upstream is contacted (offline: true)');
      using interrupted = interruption();
      const target = targetOf(config, name, image);
      const urls: { readonly url: string; readonly steps: ProbeStep[] }[] = [];
      for (const url of target.options.urls) {
        const steps: ProbeStep[] = [];
        urls.push({ url, steps });
        if (flags.json !== true) io.stdout.write(`${target.options.name}  ${url}\n`);
        const { signal } = interrupted;
        for await (const step of probeUpstream({ ...target, options: { ...target.options, urls: [url] }, signal })) {
          steps.push(step);
          if (flags.json !== true) io.stdout.write(stepText(step, flags.verbose === true));
        }
      }
      const failures = urls.flatMap(({ steps }) => steps.filter(({ result }) => result === 'failed'));
      const report = { upstream: target.options.name, image: image ?? null, ok: failures.length === 0, urls };
      if (flags.json === true) io.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`);
      if (failures.length > 0) {
        throw new Error(`${target.options.name}: ${failures.map((step) => step.name).join(', ')} failed`);
      }
    });
}

/** @throws Error, RegistryError where no such upstream is configured or the name is none of its images */
function targetOf(config: Config, name: string, image: string | undefined): Omit<ProbeTarget, 'signal'> {
  using owned = new DisposableStack();
  const created = config.upstreams.map((upstream) => owned.use(lazyUpstream(upstreamOptions(config, upstream))));
  const table = new UpstreamTable(created);
  const upstream = table.find(name);
  const configured = config.upstreams.find((one) => one.name === upstream?.name);
  if (upstream === undefined || configured === undefined) {
    throw new Error(
      `"${name}" is not a configured upstream; configured: ${config.upstreams.map((one) => one.name).join(', ')}`,
    );
  }
  const target = { options: upstreamOptions(config, configured), hasCredential: configured.auth !== undefined };
  if (image === undefined) return { ...target, image };
  const { registry, repository: written, tag, digest } = parseReference(image);
  const found = selectRepository(table, { registry: registry ?? upstream.name, name: written });
  if (found.upstream !== upstream)
    throw new Error(`${image} is an image of ${found.upstream.name}, not of ${upstream.name}`);
  if (!found.allowed) throw new Error(`upstreams.${upstream.name}.repositories does not allow ${found.repository}`);
  const reference: ManifestReference =
    digest === undefined ? { kind: 'tag', tag: tag ?? 'latest' } : { kind: 'digest', digest };
  return { ...target, image: { repository: found.repository, reference } };
}

/** A step for people: result, name, what was found, what to do. */
function stepText({ name, result, text, advice, exchanges }: ProbeStep, isVerbose: boolean): string {
  const [first = '', ...more] = labelled(name, printable(text));
  const mark = { ok: 'ok', warning: 'warning', failed: 'FAILED', skipped: 'skipped' }[result];
  const indent = ' '.repeat(9);
  const lines = [`${mark.padEnd(9)}${first}`, ...more.map((line) => indent + line)];
  if (advice !== null) lines.push(...labelled('', `→ ${printable(advice)}`).map((line) => indent + line));
  if (isVerbose) for (const exchange of exchanges) lines.push(...exchangeLines(exchange));
  return `${lines.join('\n')}\n`;
}

function exchangeLines({ method, url, authorization, remote, milliseconds, ...came }: RecordedExchange): string[] {
  const shown = authorization === 'none' ? '' : `, ${authorization} authorization`;
  const indent = ' '.repeat(11);
  return [
    `${indent}> ${method} ${url} (${remote ?? 'no connection'}${shown})`,
    `${indent}< ${came.status ?? came.error} after ${milliseconds} ms`,
    ...Object.entries(came.headers).map(([name, value]) => `${indent}  ${name}: ${value}`),
  ].map(printable);
}

/** Text of a registry must not control the terminal. */
function printable(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, '?');
}
