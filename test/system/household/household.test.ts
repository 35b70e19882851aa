/** Random households: containers with shared, nested, excluded, linked and mounted folders, and random losses, restores and undos.
 *  After each step every file outside the restored run is unchanged, and a shared folder is still shared. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { makeAppliance, ownDockerd } from '../../support/appliance.js';
import { pointsOf, seed } from '../../support/depth.js';
import { dockerEngine, type Engine, lxcEngine } from './engines.js';
import type { Kind } from './graph.js';
import { type Bed, walk } from './walk.js';

const { docker, lxc, steps, machines } = pointsOf('household');
/** HOUSEHOLD=lxc:17 walks through that household alone, lxc:17+5 through five from it on. Both print all steps. */
const [, chosen, first = seed, many = 1] = /^(docker|lxc):(\d+)(?:\+(\d+))?$/.exec(process.env.HOUSEHOLD ?? '') ?? [];

/** An appliance with its engines. It gets one household after the other. */
interface Machine extends Pick<Bed, 'a' | 'media'> {
  readonly engines: Readonly<Record<Kind, Engine>>;
}

async function makeMachine(): Promise<Machine> {
  const dockerd = await ownDockerd(t);
  await dockerd.sampleImage('sample:1');
  const base = await mkdtemp(join(tmpdir(), 'household-'));
  t.teardown(() => rm(base, { recursive: true, force: true }));
  const media = join(base, 'media');
  await mkdir(media);
  const a = await makeAppliance(t, { dockerd, flags: ['--undo-hours', '24', '--share', `media=${media}`] });
  return { a, media, engines: { docker: dockerEngine(dockerd), lxc: lxcEngine(a.lxcPath) } };
}

const all = await Promise.all(Array.from({ length: machines }, makeMachine));

for (const [kind, short] of [
  ['docker', docker],
  ['lxc', lxc],
] as const) {
  if (chosen !== undefined && chosen !== kind) continue;
  const count = chosen === undefined ? short : Number(many);
  t.test(`${kind}: ${count} households of ${steps} steps keep every file, from seed ${first} on`, async (t) => {
    const left = Array.from({ length: count }, (_, n) => Number(first) + n).values(); // each machine takes the next household
    const walkOn = async (first: Machine) => {
      let machine = first;
      for (const one of left) {
        const { said, problems } = await walk({ ...machine, engine: machine.engines[kind], kind }, one, steps);
        if (problems.length > 0 || chosen !== undefined) t.comment([`${kind}:${one}`, ...said].join('\n'));
        t.same(problems, [], `household ${kind}:${one}`);
        if (problems.length > 0) machine = await makeMachine(); // leftovers of a failure must not reach the next household
      }
    };
    await Promise.all(all.map(walkOn));
  });
}
