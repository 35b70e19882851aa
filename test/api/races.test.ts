/** Requests that race with each other, and paths that mean one record. */
import { mkdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { part } from '../support/api-client.js';
import { backupBody, targetBody } from '../system/bed/request-bodies.js';
import { startIn } from './harness.js';

const api = '/api/v1';
const tries = 1000;
const atOnce = 20;

t.test('a target that is deleted while a job is made for it never leaves a job without a target', async (t) => {
  const h = await startIn();
  t.teardown(() => h.close());
  const ends = { kept: 0, refused: 0 };
  const race = async (n: number) => {
    const { json } = await h.ask('POST', `${api}/target/`, targetBody({ name: `target-${n}` }));
    const id = Number(part(json, 'id'));
    const remote = { target: 'remote', profile: id, path: '/backups' };
    const bodies = {
      backup: backupBody({ job_name: `race-${n}`, dest: remote }),
      restore: { job_name: `race-${n}`, container_id: 'utest', type: 'lxc', src: remote, disable: true },
    };
    const kind = n % 2 === 0 ? 'backup' : 'restore';
    const [made, gone] = await Promise.all([h.ask('POST', `${api}/${kind}/`, bodies[kind]), h.ask('DELETE', `${api}/target/${id}`)]);
    if (made.status === 200) ends.kept++;
    else ends.refused++;
    return [made.status, gone.status].join();
  };
  const found = new Set<string>();
  for (let n = 0; n < tries; n += atOnce)
    for (const one of await Promise.all(Array.from({ length: atOnce }, (_, k) => race(n + k)))) found.add(one);
  t.same(
    [...found].filter((one) => !['200,409', '400,200'].includes(one)),
    [],
    `either the job is there with its target, or neither is: ${JSON.stringify(ends)}`,
  );
  const targets = new Set((await h.store.targets.list()).map(({ id }) => id));
  const jobs = [
    ...(await h.store.backup.list()).map(({ spec }) => spec.dest),
    ...(await h.store.restore.list()).map(({ spec }) => spec.src),
  ];
  t.same(
    jobs.filter(({ profile }) => profile !== undefined && !targets.has(profile)),
    [],
  );
});

t.test('a record has one job, whatever path leads to it', async (t) => {
  const shares: Record<string, string> = {};
  const h = await startIn({ localTarget: { shares, listShare: async () => [] } });
  t.teardown(() => h.close());
  const folder = join(h.folder, 'disk');
  await mkdir(join(folder, 'backups/deep'), { recursive: true });
  await symlink('backups', join(folder, 'link'));
  Object.assign(shares, { whole: folder, part: join(folder, 'backups') });
  const { json } = await h.ask('POST', `${api}/target/`, targetBody());
  const remote = (path: string) => ({ target: 'remote', profile: part(json, 'id'), path });
  const local = (path: string) => ({ target: 'local', path });
  const create = (dest: object, job_name = 'al') => h.ask('POST', `${api}/backup/`, backupBody({ job_name, dest }));
  t.equal((await create(local('/whole/backups'))).status, 200);
  t.equal((await create(local('/whole/later/on'))).status, 200);
  t.equal((await create(remote('/Backups'))).status, 200);
  const same = [
    ['a link', local('/whole/link')],
    ['another share', local('/part')],
    ['slashes', local('/whole/backups/')],
    ['a folder that is not there yet', local('/whole/later/on/')],
    ['capitals on a server', remote('backups')],
  ] as const;
  for (const [title, dest] of same)
    for (const name of ['al', 'AL'])
      t.match(await create(dest, name), { status: 409, text: /keeps al at this destination/ }, `${title}, ${name}`);
  for (const [dest, name] of [
    [local('/whole/link/deep'), 'al'],
    [local('/whole/backups'), 'all'],
    [remote('/backups/more'), 'al'],
  ] as const)
    t.equal((await create(dest, name)).status, 200, `${JSON.stringify(dest)} ${name} is another one`);
});
