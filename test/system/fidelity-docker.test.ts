/** Docker: in place and as clone, compressed or not, paused or not, from a base alone and from base and levels. */
import { rm } from 'node:fs/promises';
import t from 'tap';
import { makeAppliance, ownDockerd } from '../support/appliance.js';
import type { Dockerd } from '../support/dockerd.js';
import { type DockerSubject, makeDockerSubject } from './docker-subject.js';
import { allDifferences, backUp, featureSets, levelsOf, makeJob, restore, settle, type Trees, treesOf } from './fidelity-bench.js';

interface State {
  readonly what: string;
  readonly trees: Trees;
  readonly diff: readonly string[];
  /** Runs that hold it, by job. */
  readonly runs: readonly string[];
}

async function keptState(subject: DockerSubject, what: string, backUpAll: () => Promise<string[]>): Promise<State> {
  const trees = await treesOf(await subject.places());
  const diff = await subject.diff();
  return { what, trees, diff, runs: await backUpAll() };
}

/** Ends a clone and what it holds, so that the next one can have its name. */
async function dropClone(docker: Dockerd, subject: DockerSubject, clone: string): Promise<void> {
  const { host, file, 'read-only': readOnly } = await subject.places(clone);
  await docker.removeContainer(clone);
  for (const path of [host, file, readOnly]) await rm((path ?? '').replace(/:file$/, ''), { recursive: true });
}

t.test('docker: every cell comes back without a difference', async (t) => {
  const docker = await ownDockerd(t);
  const a = await makeAppliance(t, { dockerd: docker, flags: ['--undo-hours', '0'] });
  const subject = await makeDockerSubject(docker, a.folder, 'matrix');
  const titles = featureSets.map((features) => features.join('-') || 'plain');
  const jobs: number[] = [];
  for (const [index, features] of featureSets.entries())
    jobs.push(await makeJob(a.service, { name: titles[index] ?? '', container: subject.name, type: 'docker', features }));
  const backUpAll = async () => {
    const runs: string[] = [];
    for (const job of jobs) runs.push(await backUp(a.service, job));
    return runs;
  };
  await settle();
  const base = await keptState(subject, 'base alone', backUpAll);
  await subject.change(1);
  await keptState(subject, 'base and one differential', backUpAll);
  await subject.change(2);
  const two = await keptState(subject, 'base and the second differential', backUpAll);
  t.ok(allDifferences(base.trees, two.trees).length > 50, 'the states differ');
  for (const [index, job] of jobs.entries()) {
    const levels = await levelsOf(a.service, job, two.runs[index] ?? '', 'rootfs');
    t.equal(levels.length, titles[index]?.includes('pause') ? 3 : 2, `${titles[index]}: ${levels.join(', ')}`);
    t.equal(
      (await levelsOf(a.service, job, two.runs[index] ?? '', '@image'))[0]?.startsWith('0 image.tar'),
      true,
      'the image is stored once',
    );
  }
  for (const { what, trees, diff, runs } of [two, base]) {
    for (const [index, run] of runs.entries()) {
      const portfolio = `${titles[index]}/${run}`;
      const cell = `${titles[index]}, ${what}`;
      await restore(a.service, { portfolio, container: subject.name, type: 'docker' });
      t.same(allDifferences(trees, await treesOf(await subject.places())), [], `${cell}, in place`);
      t.same(await subject.diff(), diff, `${cell}: the engine sees the same changes of the image`);
      await restore(a.service, { portfolio, container: 'clone', type: 'docker' });
      t.same(allDifferences(trees, await treesOf(await subject.places('clone'))), [], `${cell}, as a clone`);
      t.same(await subject.diff('clone'), diff, `${cell}, as a clone: the same changes of the image`);
      await dropClone(docker, subject, 'clone');
    }
  }
});

t.test('docker: a container, its volumes and its image that are all gone come back', async (t) => {
  const docker = await ownDockerd(t);
  const a = await makeAppliance(t, { dockerd: docker });
  const subject = await makeDockerSubject(docker, a.folder, 'gone');
  const job = await makeJob(a.service, { name: 'all', container: 'gone', type: 'docker', features: ['compress', 'pause'] });
  await settle();
  const trees = await treesOf(await subject.places());
  const diff = await subject.diff();
  const run = await backUp(a.service, job);
  await dropClone(docker, subject, 'gone');
  await docker.client.json('DELETE', '/images/sample:1');
  t.same(await docker.client.json('GET', '/images/json'), [], 'nothing is left of it');
  await restore(a.service, { portfolio: `all/${run}`, container: 'gone', type: 'docker' });
  t.same(allDifferences(trees, await treesOf(await subject.places())), []);
  t.same(await subject.diff(), diff);
  t.match(await docker.client.json('GET', '/images/json'), [{ RepoTags: ['sample:1'] }], 'with the tag of its image');
});
