import { shownBytes } from '../config/units.ts';
import type { CheckupEvent, Finding, Mending } from '../operations/protocol/verify.ts';
import { addConfigFlags, type Command, type CommandIo } from './command.ts';
import { requireSelections } from './input.ts';
import { withOperations } from './operation-command.ts';
import { Progress } from './progress.ts';
import { counted, plural, shownDigest } from './terminal.ts';

/** `millpond verify`: reads what is stored again. */
export function registerVerify(program: Command, io: CommandIo): void {
  addConfigFlags(program.command('verify'))
    .description('read what is stored again and compare it with its digests and with the catalog')
    .argument('[image...]', "only these, such as nginx:1.27 or 'ghcr.io/org/*:v1.*' (default: all there is)")
    .option('--repair', 'set aside what is wrong and fetch it again')
    .option('--json', 'one JSON object a line for each event')
    .action(
      async (images: readonly string[], flags: { readonly repair?: true; readonly json?: true }, command: Command) => {
        requireSelections(images, 'latest');
        await withOperations(command, io, async ({ operations, context }) => {
          using shown = new ShownCheckup(io, { isJson: flags.json === true });
          const isRepair = flags.repair === true;
          for await (const event of operations.verify({ images, repair: isRepair }, context)) shown.take(event);
          shown.end({ isRepair });
        });
      },
    );
}

/** The terminal output of a checkup. */
class ShownCheckup implements Disposable {
  readonly #io: CommandIo;
  readonly #isJson: boolean;
  readonly #progress: Progress;
  #totalBytes = 0;
  #end: Extract<CheckupEvent, { kind: 'end' }> | undefined;

  constructor(io: CommandIo, { isJson }: { isJson: boolean }) {
    this.#io = io;
    this.#isJson = isJson;
    this.#progress = new Progress(io.stderr, { now: () => performance.now(), lines: io.stdout });
  }

  take(event: CheckupEvent): void {
    if (event.kind === 'end') this.#end = event;
    if (this.#isJson) {
      this.#io.stdout.write(`${JSON.stringify(event)}\n`);
      return;
    }
    switch (event.kind) {
      case 'plan':
        this.#totalBytes = event.bytes;
        return;
      case 'progress': {
        const total = { label: counted(event.blobs, 'blob'), doneBytes: event.bytes, totalBytes: this.#totalBytes };
        return this.#progress.update(() => ({ rows: [], total }));
      }
      case 'finding':
        return this.#progress.line(findingText(event));
      case 'incomplete':
        return this.#progress.line(`incomplete  ${event.name}`);
      case 'end':
        return this.#progress.line(endText(event));
      default:
        event satisfies never;
    }
  }

  /** @throws Error where something is wrong and was not put right */
  end({ isRepair }: { readonly isRepair: boolean }): void {
    if (this.#end === undefined) throw new Error('the mirror has not answered');
    const left = this.#end.findings - this.#end.mended;
    if (left === 0) return;
    const advice = isRepair ? ' and not put right' : ': "millpond verify --repair" fetches it again';
    throw new Error(`${left} of ${counted(this.#end.blobs, 'blob')} ${left === 1 ? 'is' : 'are'} wrong${advice}`);
  }

  [Symbol.dispose](): void {
    this.#progress[Symbol.dispose]();
  }
}

function findingText({ finding, repositories, mending }: Extract<CheckupEvent, { kind: 'finding' }>): string {
  const where = repositories.length === 0 ? '' : ` of ${repositories.join(', ')}`;
  const what = finding.kind === 'stray' ? finding.path : shownDigest(finding.digest);
  return `${finding.kind.padEnd(12)}${what}${where}${detail(finding)}${mending === null ? '' : ` – ${mended[mending]}`}`;
}

const mended: Readonly<Record<Mending, string>> = {
  fetched: 'fetched again',
  lost: 'fetched when asked for',
  recorded: 'recorded',
  'set aside': 'set aside',
  none: 'left as it is',
};

function detail(finding: Finding): string {
  if (finding.kind === 'truncated') return `: ${shownBytes(finding.size)} of ${shownBytes(finding.recordedSize)}`;
  return finding.kind === 'unreadable' ? `: ${finding.code}` : '';
}

function endText({
  blobs,
  bytes,
  findings,
  mended: right,
  incomplete,
}: Extract<CheckupEvent, { kind: 'end' }>): string {
  const put = right === 0 ? '' : `, ${right} put right`;
  const lacking = incomplete === 0 ? '' : `; ${incomplete} ${plural(incomplete, 'image')} incomplete`;
  return `${blobs} ${plural(blobs, 'blob')}, ${shownBytes(bytes)} read: ${findings} wrong${put}${lacking}`;
}
