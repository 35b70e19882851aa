/** What the service answers while its state is damaged: that it is alive, and why it serves nothing. */
import type { RequestListener } from 'node:http';
import { ApiError, plainBody, problemBody } from './errors.js';

/** @param reason in words, with what to do */
export function createRescueApi(reason: string): RequestListener {
  const refusal = new ApiError('state_damaged', reason);
  return (request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://appliance');
    request.resume(); // the answer needs no body
    const isAlive = pathname === '/healthz';
    const wantsProblem = request.headers.accept?.includes('application/problem+json') ?? false;
    const body = isAlive ? { alive: true } : wantsProblem ? problemBody(refusal) : plainBody(refusal);
    response.writeHead(isAlive ? 200 : refusal.status, {
      'Content-Type': wantsProblem && !isAlive ? 'application/problem+json' : 'application/json',
      'Cache-Control': 'no-store',
      'X-Content-Type-Options': 'nosniff',
    });
    response.end(JSON.stringify(body));
  };
}
