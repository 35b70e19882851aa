/** Tests of the behaviour that every target must have. `targetConformance` registers them. Each other file holds those of one theme. */
import { randomBytes } from 'node:crypto';
import t from 'tap';
import type { Target } from '../../../core/contract/index.js';
import { faults } from './faults.js';
import { files } from './files.js';
import { large } from './large.js';
import { names } from './names.js';
import type { Bench, Check } from './support.js';

export interface TargetConformance {
  /** Name of the target in the titles of the tests. */
  readonly name: string;
  /** Opens the target once more. All of them show the same folder. The suite disposes them. */
  open(): Promise<Target>;
  /** Opens a folder on a file system that has no room for 64 MiB. `elsewhere`: another run of the suite for this plugin has such a folder. */
  readonly openFull: (() => Promise<Target>) | 'elsewhere';
  /** Runs after all tests. */
  cleanup?(): Promise<void>;
  /** Bytes of the large stream; default 160 MiB, more than a target may need; 5 GB with TEST_CAMPAIGN=large. */
  readonly large?: number;
}

/** Registers the whole suite with tap. */
export function targetConformance(o: TargetConformance): void {
  if (o.cleanup !== undefined) t.teardown(() => o.cleanup?.());
  const largeBytes = o.large ?? (process.env.TEST_CAMPAIGN === 'large' ? 5e9 : 160 << 20);
  const checks: Check[] = [...files, ...names, ...faults, ...large(largeBytes)];
  for (const { title, run } of checks) {
    t.test(`${o.name}: ${title}`, { timeout: 600_000 }, async (t) => {
      await using target = await o.open();
      const bench: Bench = { t, target, open: () => o.open(), folder: `conformance-${randomBytes(4).toString('hex')}` };
      try {
        await run(bench);
      } finally {
        await target.remove(bench.folder);
      }
    });
  }
  const { openFull } = o;
  if (openFull === 'elsewhere') return;
  t.test(`${o.name}: a put without space fails with no_space and leaves nothing`, async (t) => {
    await using target = await openFull();
    const { noSpace } = await import('./faults.js');
    await noSpace({ t, target });
  });
}
