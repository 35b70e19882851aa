/** The log level of the service applies to its runs, too, although they log from another thread. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { notSoon } from '../../support/api-client.js';
import { idOf } from '../bed/request-bodies.js';
import { openBed } from '../remote/canary-bed.js';

for (const [level, isTold] of [
  ['warn', true],
  ['error', false],
] as const) {
  t.test(`--log-level ${level}: a warning of a run is ${isTold ? '' : 'not '}logged`, async (t) => {
    const { folder, client, service } = await openBed(t, ['web'], ['--log-level', level]);
    const run = join(folder, 'share/log/container-backup@web/2026-01-01_00-00-00');
    await mkdir(run, { recursive: true });
    await writeFile(join(run, 'manifest.json'), 'no manifest');
    const dest = { target: 'local', path: '/test/log' };
    const id = idOf(await client.call('POST', '/backup', { job_name: 'web', container_id: 'web', type: 'lxc', dest, at: notSoon() }));
    await client.call('PUT', `/backup/${id}/run`);
    t.match(await client.settled('backup', id), { result: 0 });
    t.equal(/ warn .*2026-01-01_00-00-00/.test(service.said.stderr), isTold, service.said.stderr);
  });
}
