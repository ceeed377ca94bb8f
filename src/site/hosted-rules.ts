import type { Config } from '../config/config.ts';
import { HostedRules } from '../hosted/rules.ts';

/** The rules of the configuration in effect, compiled once for each. */
export function hostedRules(config: () => Config): () => HostedRules {
  let from: Config | undefined;
  let rules: HostedRules | undefined;
  return () => {
    const current = config();
    if (rules === undefined || from !== current) {
      const {
        repositories = [],
        immutableTags = [],
        mediaTypes = [],
        quota = [],
        sparseIndexes = false,
        uploadUrl,
        maxUploads,
      } = current.hosted ?? {};
      const where = { repositories, uploadUrl };
      const limits = { immutableTags, mediaTypes, sparseIndexes, maxUploads, quotas: quota };
      rules = new HostedRules({ ...where, ...limits });
      from = current;
    }
    return rules;
  };
}
