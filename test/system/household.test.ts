/** Random households: containers with shared, nested, excluded, linked and mounted folders, random losses, restores and undos. After
 *  each step every file that no restored run holds is as it was, and what is shared is one. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { makeAppliance, ownDockerd } from '../support/appliance.js';
import { pointsOf, seed } from '../support/depth.js';
import { dockerEngine, type Engine, lxcEngine } from './household-engines.js';
import type { Kind } from './household-graph.js';
import { walk } from './household-walk.js';

const { docker: dockerSeeds, lxc: lxcSeeds, steps } = pointsOf('household');
const docker = await ownDockerd(t);
await docker.sampleImage('sample:1');
const base = await mkdtemp(join(tmpdir(), 'household-'));
t.teardown(() => rm(base, { recursive: true, force: true }));
const media = join(base, 'media');
await mkdir(media);
const a = await makeAppliance(t, { dockerd: docker, flags: ['--undo-hours', '24', '--share', `media=${media}`] });

const engines: Readonly<Record<Kind, Engine>> = { docker: dockerEngine(docker), lxc: lxcEngine(a.lxcPath) };

for (const [kind, count] of [
  ['docker', dockerSeeds],
  ['lxc', lxcSeeds],
] as const) {
  t.test(`${kind}: ${count} households of ${steps} steps each, from seed ${seed} on`, async (t) => {
    for (let n = 0; n < count; n += 1) {
      const problems = await walk({ a, engine: engines[kind], kind, media }, seed + n, steps);
      if (problems.length > 0) t.comment(problems.join('\n'));
      t.same(
        problems.filter((line) => line.startsWith('!')),
        [],
        `household of seed ${seed + n}`,
      );
    }
  });
}
