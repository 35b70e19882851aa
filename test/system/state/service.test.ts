/** The whole service is killed, or its disk loses power, while jobs are made, changed, deleted and run, old runs are deleted
 *  and users log in. Every acknowledged write is there afterwards, each listed run is complete, and jobs go on. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { ApiClient, notSoon, part } from '../../support/api-client.js';
import { type Appliance, makeAppliance } from '../../support/appliance.js';
import type { DemoService } from '../../support/demo-client.js';
import { isWanted, pointsOf } from '../../support/depth.js';
import { lxc } from '../../support/lxc.js';
import { type CutFileSystem, cutFileSystem } from '../../support/power-cut.js';
import { Ledger } from '../crash/ledger.js';
import { seededRandom } from '../crash/random.js';
import { checkRecord, listedRuns, runNames } from '../crash/record.js';

const { serviceKills, serviceCuts } = pointsOf('state');
const random = seededRandom();
t.comment(`TEST_SEED=${random.seed}`);
/** The kill or power cut comes within this time after the first request. A run takes about a second. */
const withinMs = 2_000;

const body = (name: string) => ({
  ...{ job_name: name, container_id: 'web', type: 'lxc', dest: { target: 'local', path: '/test/s' }, at: notSoon() },
  ...{ features: ['compress', 'pause'], retention: 2 },
});

/** Acknowledged facts beyond those of the ledger. */
class Told {
  /** Retention of the edited job: the values that it may have. */
  retention: number[] = [2];
  /** Cookie of the last session. */
  cookie = '';
  /** The last run with a good end. */
  run = '';
  runs = 0;
  logins = 0;
  edits = 0;

  constructor(
    readonly job: number,
    readonly edited: number,
    private readonly data: string,
  ) {}

  /** Sends requests until the service stops answering. */
  async ask(service: DemoService): Promise<void> {
    await Promise.all([this.#edit(service), this.#logIn(service), this.#run(service)].map((lane) => lane.catch(() => undefined)));
  }

  async #edit(service: DemoService): Promise<never> {
    for (;;) {
      const next = 2 + ((this.retention.at(-1) ?? 2) % 90);
      this.retention.push(next); // until the answer comes, both values are right
      await service.call('PUT', `/backup/${this.edited}`, { retention: next });
      this.retention = [next];
      this.edits++;
    }
  }

  async #logIn({ address }: DemoService): Promise<never> {
    for (;;) {
      const client = new ApiClient(address);
      await client.logIn();
      this.cookie = client.cookie;
      this.logins++;
      await sleep(50);
    }
  }

  async #run(service: DemoService): Promise<never> {
    for (;;) {
      await writeFile(this.data, `${Math.random()}\n`.repeat(5000));
      this.run = String((await service.backUp(this.job)).run);
      this.runs++;
    }
  }

  async problems(service: DemoService): Promise<string[]> {
    const found: string[] = [];
    const retention = Number(part(await service.call('GET', `/backup/${this.edited}`), 'retention'));
    if (!this.retention.includes(retention)) found.push(`retention is ${retention}, not one of ${this.retention}`);
    else this.retention = [retention];
    const asked = await fetch(`${service.address}/api/v1/backup/`, { headers: { cookie: this.cookie } });
    if (this.cookie !== '' && asked.status !== 200) found.push(`the last session is answered ${asked.status}`);
    if (this.run !== '' && !runNames(await listedRuns(service, this.job)).includes(this.run)) found.push(`${this.run} is not listed`);
    return found;
  }
}

interface Bed {
  readonly a: Appliance;
  readonly disk: CutFileSystem;
  readonly told: Told;
  readonly ledger: Ledger;
}

async function makeBed(t: Test): Promise<Bed> {
  const folder = await mkdtemp(join(tmpdir(), 'service-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  const disk = await cutFileSystem(t, folder);
  await mkdir(join(disk.folder, 'share'));
  const shares = { test: join(disk.folder, 'share') };
  const a = await makeAppliance(t, { stateFolder: join(disk.folder, 'state'), shares });
  await a.lxc('web');
  const job = await a.service.create('backup', body('web'));
  const edited = await a.service.create('backup', { ...body('edited'), disable: true });
  const told = new Told(job, edited, join(a.lxcPath, 'web/volumes/data/file'));
  return { a, disk, told, ledger: new Ledger('web') };
}

/** Kills the service or cuts its power meanwhile, and starts it again. */
async function round({ a, told, ledger }: Bed, afterMs: number, hit: (service: DemoService) => Promise<void>): Promise<string[]> {
  const { service } = a;
  const writing = ledger.write(service);
  const asking = told.ask(service);
  await sleep(afterMs);
  await hit(service);
  await Promise.all([writing.end(), asking]);
  await a.restart();
  const problems = [...(await ledger.problems(a.service)), ...(await told.problems(a.service))];
  problems.push(...(await checkRecord(a.service, told.job, join(a.share, 's/container-backup@web'))).problems);
  if ((await lxc('info', a.lxcPath, 'web', '-sH')) !== 'RUNNING') problems.push('the container does not run');
  await a.service.settled('backup', told.job);
  told.run = String((await a.service.backUp(told.job)).run);
  return problems;
}

async function rounds(t: Test, count: number, what: string, hit: (bed: Bed, service: DemoService) => Promise<void>): Promise<void> {
  const bed = await makeBed(t);
  for (const [n, share] of random.spread(count).entries()) {
    if (!isWanted(`${what} ${n + 1}`)) continue;
    const afterMs = Math.round(share * withinMs);
    t.same(await round(bed, afterMs, (service) => hit(bed, service)), [], `${what} ${n + 1} after ${afterMs} ms`);
  }
  const { ledger, told } = bed;
  t.comment(
    `${ledger.acknowledged} creations, ${ledger.deletions} deletions, ${told.edits} edits, ${told.logins} logins, ${told.runs} runs were acknowledged`,
  );
}

t.test('a kill of the busy service loses no acknowledged write', (t) => rounds(t, serviceKills, 'kill', (_, service) => service.kill()));

t.test('a power cut of the busy service loses no acknowledged write', (t) =>
  rounds(t, serviceCuts, 'cut', ({ disk }, service) => disk.cut(() => service.kill())),
);
