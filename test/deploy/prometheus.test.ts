import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { run } from '../support/processes.ts';
import { startTestSite } from '../support/site.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith } from '../support/tools.ts';

const rulesFile = fileURLToPath(new URL('../../deploy/prometheus/millpond.rules.yaml', import.meta.url));

const dashboardFile = fileURLToPath(new URL('../../deploy/grafana/millpond.json', import.meta.url));

interface RulesFile {
  readonly groups: readonly { readonly rules: readonly { readonly alert: string; readonly expr: string }[] }[];
}

async function rules(): Promise<RulesFile['groups'][number]['rules']> {
  return (parse(await readFile(rulesFile, 'utf8')) as RulesFile).groups.flatMap((group) => group.rules);
}

interface Dashboard {
  readonly panels: readonly { readonly title: string; readonly targets: readonly { readonly expr: string }[] }[];
}

/** Each query of the dashboard, with what Grafana would put into it. */
async function queries(): Promise<readonly { readonly name: string; readonly expr: string }[]> {
  const { panels } = JSON.parse(await readFile(dashboardFile, 'utf8')) as Dashboard;
  return panels.flatMap(({ title, targets }) =>
    targets.map(({ expr }) => ({
      name: title,
      expr: expr.replaceAll('$__rate_interval', '5m').replaceAll('$instance', '.*'),
    })),
  );
}

test('alerts and dashboard ask for metrics that the mirror has', async () => {
  await using site = await startTestSite({ upstreams: { 'registry.test': { origin: 'http://127.0.0.1:1' } } });
  const exposed = (await site.get('/metrics')).body.toString();
  const known = [...exposed.matchAll(/^# TYPE (\w+)/gm)].map(([, name = '']) => name);
  const asking = [...(await rules()).map(({ alert, expr }) => ({ name: alert, expr })), ...(await queries())];
  expect(asking.length).toBeGreaterThan(15);
  for (const { name, expr } of asking) {
    const asked = [...expr.matchAll(/millpond_\w+/g)].map(([metric]) => metric.replace(/_bucket$/, ''));
    expect(asked.length, name).toBeGreaterThan(0);
    expect(known, name).toEqual(expect.arrayContaining(asked));
  }
});

describeWith(['promtool'], 'the queries of the dashboard, as Prometheus reads them', () => {
  test('are valid', async () => {
    await using folder = await temporaryDirectory('queries');
    const file = join(folder.path, 'rules.yaml');
    const recorded = (await queries()).map(({ expr }, index) => ({ record: `query_${index}`, expr }));
    await writeFile(file, JSON.stringify({ groups: [{ name: 'queries', rules: recorded }] }));
    expect(await run('promtool', ['check', 'rules', file])).toContain(`${recorded.length} rules found`);
  });
});

describeWith(['promtool'], 'the alerts, as Prometheus reads them', () => {
  test('are valid, fire for what they are about, and are silent otherwise', async () => {
    expect(await run('promtool', ['check', 'rules', rulesFile])).toContain(`${(await rules()).length} rules found`);
    await using folder = await temporaryDirectory('alerts');
    const file = join(folder.path, 'tests.yaml');
    const failing = {
      'millpond_wrong_bytes_total{instance="a"}': '0x10 1x200',
      'millpond_altered_blobs_total{instance="a"}': '0x10 1x200',
      'millpond_disk_faults_total{instance="a"}': '0x10 3x200',
      'millpond_requests_total{instance="a",upstream="docker.io",result="failed"}': '0+10x210',
      'millpond_requests_total{instance="a",upstream="docker.io",result="hit"}': '0+90x210',
      'millpond_upstream_available{instance="a",upstream="docker.io"}': '0x210',
      'millpond_stale_answers_total{instance="a",upstream="docker.io"}': '0+1x210',
      'millpond_upstream_ratelimit_remaining{instance="a",upstream="docker.io"}': '3x210',
    };
    const well = {
      'millpond_wrong_bytes_total{instance="a"}': '1x210',
      'millpond_altered_blobs_total{instance="a"}': '1x210',
      'millpond_disk_faults_total{instance="a"}': '1x210',
      'millpond_requests_total{instance="a",upstream="docker.io",result="failed"}': '0+1x210',
      'millpond_requests_total{instance="a",upstream="docker.io",result="hit"}': '0+90x210',
      'millpond_upstream_available{instance="a",upstream="docker.io"}': '1x210',
      'millpond_stale_answers_total{instance="a",upstream="docker.io"}': '5x210',
      'millpond_upstream_ratelimit_remaining{instance="a",upstream="docker.io"}': '80x210',
    };
    const names = (await rules()).map(({ alert }) => alert);
    const scene = (series: Readonly<Record<string, string>>, at: string, firing: boolean) => ({
      interval: '1m',
      input_series: Object.entries(series).map(([name, values]) => ({ series: name, values })),
      promql_expr_test: names.map((name) => ({
        expr: `count(ALERTS{alertname="${name}",alertstate="firing"})`,
        eval_time: at,
        exp_samples: firing ? [{ labels: '{}', value: 1 }] : [],
      })),
    });
    // Counters are looked at soon after they grew, conditions after they have lasted.
    const soon = ['MillpondWrongBytes', 'MillpondAlteredBlobs', 'MillpondDiskFaults'];
    const of = (scenes: ReturnType<typeof scene>, wanted: (name: string) => boolean) => ({
      ...scenes,
      promql_expr_test: scenes.promql_expr_test.filter(({ expr }) => wanted(/"(\w+)"/.exec(expr)?.[1] ?? '')),
    });
    const tests = [
      of(scene(failing, '15m', true), (name) => soon.includes(name)),
      of(scene(failing, '2h', true), (name) => !soon.includes(name)),
      scene(well, '2h', false),
    ];
    await writeFile(file, JSON.stringify({ rule_files: [rulesFile], evaluation_interval: '1m', tests }));
    expect(await run('promtool', ['test', 'rules', file])).toContain('SUCCESS');
  });
});
