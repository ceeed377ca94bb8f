import { describe, expect, test } from 'vitest';
import {
  recordNames,
  renderChartValues,
  renderContributing,
  renderDecisions,
} from '../../scripts/generated-sections.ts';
import { pageText } from './pages.ts';

describe('what npm run docs writes', () => {
  test('CONTRIBUTING.md has the layers that test/architecture.test.ts enforces', async () => {
    expect(await pageText('CONTRIBUTING.md')).toBe(renderContributing());
    expect(renderContributing()).toContain('| `oci` |');
  });

  test('docs/adr/README.md has a row for every record', async () => {
    expect(await pageText('docs/adr/README.md')).toBe(renderDecisions());
    expect(recordNames().length).toBeGreaterThanOrEqual(18);
  });

  test('the schema of the chart’s values has the schema of the configuration', async () => {
    expect(await pageText('deploy/helm/millpond/values.schema.json')).toBe(renderChartValues());
  });
});
