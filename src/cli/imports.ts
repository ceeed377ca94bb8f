import { registerHooks } from 'node:module';

/**
 * Makes the imports that follow cheaper: they are most of a start. Without it everything works as well, only later.
 * Threads load few files, and do without.
 *
 * - The files of this program name each other by relative path and with their ending, so there is nothing to look up:
 *   Node would look at each file, its real path and the package.json above it.
 * - zod's index exports its messages in 60 languages, a file each; the configuration uses none of them by name.
 */
export function quickenImports(): void {
  registerHooks({
    resolve(specifier, context, next) {
      const { parentURL } = context;
      if (parentURL !== undefined && specifier.startsWith('.')) {
        if (specifier.endsWith('.ts'))
          return { url: new URL(specifier, parentURL).href, format: 'module-typescript', shortCircuit: true };
        if (specifier === '../locales/index.js' && parentURL.includes('/node_modules/zod/'))
          return next('../locales/en.js', context);
      }
      return next(specifier, context);
    },
  });
}
