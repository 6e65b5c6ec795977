'use strict'

// Named checks, waits, restarts of the broker, and members of groups in processes of their own.

const { spawn } = require('node:child_process')
const { once } = require('node:events')
const path = require('node:path')
const readline = require('node:readline')

const LIMIT_MS = 20_000
const RUN = Date.now().toString(36)
const checks = []
let count = 0

const name = (hint) => `node-${hint}-${RUN}-${++count}`
const numbers = (from, to) => Array.from({ length: to - from }, (_, i) => String(from + i))
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
const now = () => Number(process.hrtime.bigint() / 1000n) // CLOCK_MONOTONIC in microseconds: one clock for all processes

function check(title, body) {
  checks.push({ title, body })
}

function same(wanted, got, what) {
  const [left, right] = [JSON.stringify(wanted), JSON.stringify(got)]
  if (left !== right) throw new Error(`${what}: wanted ${left.slice(0, 300)}, got ${String(right).slice(0, 300)}`)
}

async function until(what, condition) {
  const end = Date.now() + LIMIT_MS
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`not within ${LIMIT_MS} ms: ${what}`)
    await sleep(20)
  }
}

/** What the work throws, which must be of this type (Kafka's name of the error, or kafkajs's of its own). */
async function fails(type, work) {
  try {
    await work()
  } catch (error) {
    const got = [error, error.cause, ...(error.errors || []), ...(error.groups || []).map((each) => each.error)]
    if (got.some((each) => each && (each.type === type || each.name === type))) return error
    throw error
  }
  throw new Error(`wanted ${type}, but it succeeded`)
}

async function restart(how) {
  const answer = await fetch(`${process.env.BROKER_CONTROL}/restart?how=${how}`, { method: 'POST' })
  if (!answer.ok) throw new Error(await answer.text())
}

/** Prints a line of JSON per event: `assigned` and `revoked` with partitions and time, `value` per record. */
class Member {
  constructor(settings) {
    this.values = new Set()
    this.owned = new Map()
    this.spans = []
    this.process = spawn(process.execPath, [path.join(__dirname, 'member.js'), JSON.stringify(settings)], { stdio: ['ignore', 'pipe', 'inherit'] })
    this.closed = once(this.process, 'close')
    readline.createInterface({ input: this.process.stdout }).on('line', (line) => this.take(JSON.parse(line)))
  }

  take({ value, assigned, revoked, at }) {
    if (value !== undefined) this.values.add(value)
    for (const partition of assigned || []) this.owned.set(partition, at)
    this.lose(revoked || [], at)
  }

  lose(partitions, at) {
    for (const partition of partitions) {
      if (this.owned.has(partition)) this.spans.push({ partition, start: this.owned.get(partition), end: at })
      this.owned.delete(partition)
    }
  }

  leave() {
    return this.end('SIGTERM')
  }

  die() {
    return this.end('SIGKILL')
  }

  async end(signal) {
    if (this.ended) return
    this.ended = true
    this.process.kill(signal)
    const hanging = setTimeout(() => this.process.kill('SIGKILL'), LIMIT_MS)
    await this.closed
    clearTimeout(hanging)
    this.lose([...this.owned.keys()], now())
  }
}

/** Whether these members own that many partitions among them, and each some. */
function share(partitions, ...members) {
  const owned = members.flatMap((member) => [...member.owned.keys()])
  return owned.length === partitions && new Set(owned).size === partitions && members.every((member) => member.owned.size > 0)
}

/** No partition may have had two owners at a time. Only for members that have ended. */
function neverShared(members) {
  const spans = members.flatMap((member) => member.spans).sort((a, b) => a.partition - b.partition || a.start - b.start)
  for (let i = 1; i < spans.length; i++) {
    const [before, after] = [spans[i - 1], spans[i]]
    if (before.partition === after.partition && after.start < before.end) {
      throw new Error(`partition ${after.partition} had two owners for ${before.end - after.start} µs`)
    }
  }
}

async function main() {
  const only = process.argv[2] || ''
  let [passed, failed] = [0, 0]
  for (const { title, body } of checks.filter((each) => each.title.includes(only))) {
    const started = Date.now()
    try {
      await body()
      passed++
      console.log(`PASS ${title}`)
    } catch (error) {
      failed++
      const where = (error.stack || '').split('\n').find((line) => line.includes('suite.js:')) || ''
      console.log(`FAIL ${title}: ${error.message} ${where.trim().replace(/^.*\//, '(').replace(/\)?$/, ')')}`)
    }
    if (process.env.TIMES) console.log(`# ${((Date.now() - started) / 1000).toFixed(1)} s ${title}`)
  }
  console.log(`${passed} passed, ${failed} failed`)
  // at once: clients of failed checks may go on for long
  process.exit(passed && !failed ? 0 : 1)
}

module.exports = { LIMIT_MS, Member, check, fails, main, name, neverShared, now, numbers, restart, same, share, sleep, until }
