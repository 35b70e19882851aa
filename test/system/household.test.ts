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
/** HOUSEHOLD=lxc:17 or lxc:17+5 walks through that one alone, or through five from there on, and tells all steps. */
const [, chosen, first = seed, many = 1] = /^(docker|lxc):(\d+)(?:\+(\d+))?$/.exec(process.env.HOUSEHOLD ?? '') ?? [];
const docker = await ownDockerd(t);
await docker.sampleImage('sample:1');
const base = await mkdtemp(join(tmpdir(), 'household-'));
t.teardown(() => rm(base, { recursive: true, force: true }));
const media = join(base, 'media');
await mkdir(media);
const a = await makeAppliance(t, { dockerd: docker, flags: ['--undo-hours', '24', '--share', `media=${media}`] });

const engines: Readonly<Record<Kind, Engine>> = { docker: dockerEngine(docker), lxc: lxcEngine(a.lxcPath) };

for (const [kind, short] of [
  ['docker', dockerSeeds],
  ['lxc', lxcSeeds],
] as const) {
  if (chosen !== undefined && chosen !== kind) continue;
  const count = chosen === undefined ? short : Number(many);
  t.test(`${kind}: ${count} households of ${steps} steps each, from seed ${first} on`, async (t) => {
    for (let one = Number(first); one < Number(first) + count; one += 1) {
      const { said, problems } = await walk({ a, engine: engines[kind], kind, media }, one, steps);
      if (problems.length > 0 || chosen !== undefined) t.comment([`${kind}:${one}`, ...said].join('\n'));
      t.same(problems, [], `household ${kind}:${one}`);
    }
  });
}
