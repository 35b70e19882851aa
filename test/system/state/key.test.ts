/** The key of the secrets is lost or changed. Targets are listed, jobs that need a password fail with the reason, and a new
 *  password repairs them. */
import { randomBytes } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { notSoon, part } from '../../support/api-client.js';
import { makeAppliance } from '../../support/appliance.js';

const target = { name: 'nas', ipaddr: '127.0.0.1:9', username: 'u', password: 'Tr0ub4dor', type: 'sftp' };
const job = { job_name: 'web', container_id: 'web', type: 'lxc', dest: { target: 'remote', profile: 1, path: '/b' }, at: notSoon() };

for (const [what, harm] of [
  ['lost', (file: string) => rm(file)],
  ['changed', (file: string) => writeFile(file, randomBytes(32))],
  ['cut', (file: string) => writeFile(file, randomBytes(31))],
] as const)
  t.test(`a key that is ${what} loses the passwords and nothing else`, async (t) => {
    const appliance = await makeAppliance(t);
    await appliance.service.call('POST', '/target/', target);
    await appliance.service.call('POST', '/backup/', job);
    await harm(join(appliance.stateFolder, 'secret.key'));
    await appliance.restart();
    const { service } = appliance;
    t.match(await service.call('GET', '/target/'), [{ id: 1, name: 'nas', secrets: 'lost' }]);
    const ping = await service.ask('GET', '/target/1/ping', undefined, { accept: 'application/problem+json' });
    t.equal(ping.status, 409);
    t.match(ping.json, { type: 'urn:container-backup:error:secrets_lost', detail: /set the password again/ });
    t.match(await service.call('GET', '/target/1/check'), { alive: false, problems: [{ code: 'secrets_lost', fix: /Set the password/ }] });
    await service.call('PUT', '/backup/1/run');
    t.match(await service.settled('backup', 1), { result: -1, error: { code: 'secrets_lost', message: /set the password again/ } });

    const renamed = await service.ask('PUT', '/target/1', { desc: 'told' });
    t.match(renamed.json, { desc: 'told', secrets: 'lost' }, 'other changes leave the old secrets, in case that the key comes back');
    await appliance.restart();
    t.match(await appliance.service.call('GET', '/target/'), [{ secrets: 'lost' }], 'and it is told again after a restart');
    t.notOk(part((await appliance.service.ask('PUT', '/target/1', { password: 'new' })).json, 'secrets'));
    t.match((await appliance.service.ask('GET', '/target/1/ping')).json, { alive: false }, 'it is tried with the new password');
  });
