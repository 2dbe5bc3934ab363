// A certified OpenID Connect provider for tests: its people log in by a form that says who they are and how they proved it.
// node server.js SETTINGS.json, where SETTINGS holds { port, key, cert, clients, accounts, jwks }.
import fs from 'node:fs';
import https from 'node:https';
import querystring from 'node:querystring';
import Provider from 'oidc-provider';

const settings = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const issuer = `https://127.0.0.1:${settings.port}`;

async function autoGrant(ctx) {
  const grant = new ctx.oidc.provider.Grant({
    clientId: ctx.oidc.client.clientId,
    accountId: ctx.oidc.session.accountId,
  });
  grant.addOIDCScope('openid groups');
  await grant.save();
  return grant;
}

const provider = new Provider(issuer, {
  clients: settings.clients,
  jwks: settings.jwks,
  acrValues: ['urn:hospital:password', 'urn:hospital:strong'],
  claims: { openid: ['sub', 'amr'], groups: ['groups'], acr: null, auth_time: null },
  conformIdTokenClaims: false,
  cookies: { keys: ['only for tests'] },
  enabledJWA: {
    idTokenSigningAlgValues: ['RS256', 'PS256', 'ES256', 'EdDSA'],
    clientAuthSigningAlgValues: ['RS256', 'PS256', 'ES256', 'EdDSA'],
  },
  features: { devInteractions: { enabled: false } },
  findAccount: (_ctx, id) => ({
    accountId: id,
    claims: () => ({ sub: id, ...settings.accounts[id] }),
  }),
  interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
  loadExistingGrant: autoGrant,
  pkce: { required: () => true },
  ttl: { Session: 3600, Grant: 3600, Interaction: 600, AccessToken: 600, IdToken: 600 },
});

async function body(request) {
  let text = '';
  for await (const piece of request) text += piece;
  return querystring.parse(text);
}

async function interact(request, response) {
  if (request.method === 'GET') {
    response.writeHead(200, { 'content-type': 'text/html' });
    response.end('<form method="post"><input name="login"><input name="acr"><input name="amr"><input name="ts"><button>Log in</button></form>');
    return;
  }
  const said = await body(request);
  const login = { accountId: said.login, remember: true };
  if (said.acr) login.acr = said.acr;
  if (said.amr) login.amr = said.amr.split(' ');
  if (said.ts) login.ts = Number(said.ts);
  await provider.interactionFinished(request, response, said.deny ? { error: 'access_denied' } : { login });
}

const serve = provider.callback();
https
  .createServer({ key: fs.readFileSync(settings.key), cert: fs.readFileSync(settings.cert) }, (request, response) => {
    if (request.url.startsWith('/interaction/')) {
      interact(request, response).catch((fault) => {
        response.writeHead(500);
        response.end(String(fault));
      });
      return;
    }
    serve(request, response);
  })
  .listen(settings.port, '127.0.0.1', () => console.log('listening'));
