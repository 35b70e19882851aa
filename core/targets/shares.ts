/** Marks a share when it is first configured. From then on a share without its marker counts as not mounted. */
import { mkdir } from 'node:fs/promises';
import type { PluginLog } from '../contract/index.js';
import type { Plugins } from '../plugins/index.js';
import type { Store } from '../store/index.js';
import { openUnderPolicy } from './under-policy.js';

export interface ShareDeps {
  readonly store: Store;
  readonly plugins: Plugins;
  /** Share name → folder on the host. */
  readonly shares: Readonly<Record<string, string>>;
  readonly stateFolder: string;
  readonly log: PluginLog;
}

/** A share that does not answer within so many ms cannot be marked. */
const markMs = 10_000;

/** Marks new shares. Logs a share that cannot be marked; backups to it fail with the reason. */
export async function markNewShares({ store, plugins, shares, stateFolder, log }: ShareDeps): Promise<void> {
  for (const [share, root] of Object.entries(shares)) {
    if ((await store.shares.get(share)) === root) continue;
    try {
      // Make only the default share's folder. Any other folder that is absent may be an unmounted disk.
      if (root.startsWith(`${stateFolder}/`)) await mkdir(root, { recursive: true });
      const plugin = { id: 'local', options: { share, root, mark: true }, name: `share ${share}` };
      await using _marked = await openUnderPolicy(plugins, plugin, { signal: AbortSignal.timeout(markMs), stallMs: markMs, log });
      await store.shares.put(share, root);
    } catch (error) {
      log('warn', `share ${share} at ${root} cannot be used: ${error}`);
    }
  }
}
