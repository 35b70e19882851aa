/** Sends the captured conversation as a client does, and then tests the rules. */
import { readFile, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { makeAppliance } from '../../support/appliance.js';
import { differences, snapshotOf } from '../../support/fidelity.js';
import { lxc } from '../../support/lxc.js';
import { ballast, ballastFlags, heldChild } from '../bed/held-run.js';
import { accepted, allIn, endedBackup, stateOf } from '../bed/request-bodies.js';
import { zone } from '../bed/zone.js';
import { backupRules } from './backup.js';
import { calendarRules } from './calendar.js';
import { conversation } from './conversation.js';
import { curlOf } from './curl.js';
import { requestRules } from './http.js';
import { progressRules } from './progress.js';
import { queueRules } from './queue.js';
import { restoreRules } from './restore.js';
import { bedOf } from './rules.js';
import { targetRules } from './target.js';

const a = await makeAppliance(t, { environment: { TZ: zone.name }, flags: ballastFlags });
const curl = await curlOf(a);
for (const name of ['utest', 'small', 'other']) await a.lxc(name);
const data = join(a.lxcPath, 'utest/volumes/data');
const large = join(data, 'large');
await ballast(large);

t.test('every request of the captured conversation is answered as captured', async (t) => {
  const { say, unsaid } = conversation(curl);
  await t.test('a target is made, listed and changed', async (t) => {
    await say(t, 'POST /target/');
    await say(t, 'GET /target/');
    await say(t, 'GET /target/1/dirs/', (captured) => captured.replace('Unabailable', 'Unavailable'));
    await say(t, 'GET /target/local/dirs/');
    await say(t, 'GET /target/1');
    await say(t, 'GET /target/1/ping', () => '{"alive":false}'); // nothing listens there
    await say(t, 'PUT /target/1');
  });

  await t.test('backups are made and scheduled', async (t) => {
    await say(t, 'POST /backup/');
    await say(t, 'POST /backup/');
    for (const id of [1, 2]) await accepted(a.service, id);
    await say(t, 'GET /backup/');
    await say(t, 'GET /backup/1');
    await say(t, 'GET /backup/progress');
  });

  const state = () => stateOf(a.service, 'backup', 1);
  await t.test('a backup runs on request', async (t) => {
    const before = Date.now();
    await say(t, 'PUT /backup/1/run');
    t.match((await state()).code, /^(waiting|running)$/, 'and is on its way when the answer is there');
    const { run } = await endedBackup(a.service, 1);
    t.match(await state(), { code: 'scheduled', result: 0, last_run: /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/, next_run: / 01:00:00$/ });
    const { last_run_at } = await stateOf(a.service, 'backup', 1, '?view=full');
    t.ok(Date.parse(String(last_run_at)) >= before - 1 && Date.parse(String(last_run_at)) <= Date.now(), 'last_run is its start');
    t.ok((await allIn(a.share)).includes(`backup/container-backup@LocalJob/${run}/manifest.json`), 'the run lies where dest says');
  });

  await t.test('a backup is stopped', async (t) => {
    const before = await allIn(a.share);
    await utimes(large, 1, 1); // so that the next level stores it again and takes as long
    const held = heldChild(a.service, 'tar');
    await a.service.call('PUT', '/backup/1/run');
    await held;
    t.match(await state(), { code: 'running', progress: -1 }, 'it tells its progress while it runs');
    const began = Date.now();
    await say(t, 'PUT /backup/1/stop', (captured) => captured.replace('01:00:00"', '01:00:00","result":-2')); // it has stopped by then
    t.ok(Date.now() - began < 5000, `${Date.now() - began} ms, of at most 5 s`);
    t.same(await allIn(a.share), before, 'nothing of the run is left');
    t.equal(await lxc('info', a.lxcPath, 'utest', '-sH'), 'RUNNING', 'the container runs');
    await say(t, 'PUT /backup/1', (captured) => captured.replace(/"next_run":"[^"]*",/, '')); // a disabled job has no next run
    await say(t, 'DELETE /backup/1');
  });

  await t.test('a restore in place brings the container back', async (t) => {
    const before = await snapshotOf(data);
    await writeFile(join(data, 'file'), 'overwritten by mistake');
    await writeFile(join(data, 'new'), '');
    await say(t, 'POST /restore/');
    await a.service.ended('restore', 1);
    await say(t, 'GET /restore/');
    await say(t, 'GET /restore/1');
    await say(t, 'PUT /restore/1/stop');
    await say(t, 'DELETE /restore/1');
    // The level that was stopped is not part of it: the stamp of the large file is that of the first run.
    const found = differences(before, await snapshotOf(data)).filter((line) => !line.startsWith('"large": mtime '));
    t.same(found, []);
    t.equal(await readFile(join(data, 'file'), 'utf8'), 'data of utest\n');
    t.equal(await lxc('info', a.lxcPath, 'utest', '-sH'), 'RUNNING');
  });

  await t.test('the backup and the target are deleted', async (t) => {
    t.equal((await curl.printed('curl -sq -XDELETE -b cookies.txt http://$QIP:$QPORT/api/v1/backup/2')).trim(), '[2]');
    await say(t, 'DELETE /target/1');
    t.same(unsaid(), [], 'nothing captured was left out');
  });
});

const bed = bedOf(a, curl, large);
const rules = { ...requestRules, ...targetRules, ...calendarRules, ...backupRules, ...queueRules, ...restoreRules, ...progressRules };
for (const [title, rule] of Object.entries(rules)) t.test(title, (t) => rule(t, bed));
