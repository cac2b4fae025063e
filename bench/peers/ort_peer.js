// ONNX Runtime as a process that measures itself: ort_peer.js MODULE GRAPH THREADS BATCH INPUT
// Says when it is ready, then answers every line "measure SECONDS" on stdin; one line of JSON each.
// INPUT holds the images' floats. MODULE is the folder of the package onnxruntime-node.
'use strict';
const fs = require('fs');
const readline = require('readline');

const [module_, graph, threads, batch, input] = process.argv.slice(2);

function residentMegabytes() {
  return process.memoryUsage().rss / 1e6;
}

function milliseconds() {
  return Number(process.hrtime.bigint()) / 1e6;
}

async function main() {
  const bareMegabytes = residentMegabytes();
  const ort = require(module_);
  const start = milliseconds();
  const session = await ort.InferenceSession.create(graph, {
    intraOpNumThreads: Number(threads),
    interOpNumThreads: 1,
    executionMode: 'sequential',
    graphOptimizationLevel: 'all',
    logSeverityLevel: 3,
  });
  const loadMs = milliseconds() - start;
  const raw = fs.readFileSync(input);
  const floats = new Float32Array(raw.buffer, raw.byteOffset, raw.byteLength / 4);
  const images = new ort.Tensor('float32', floats, [Number(batch), 3, 224, 224]);
  const run = async () => (await session.run({images})).logits.data;
  const logits = Array.from((await run()).slice(0, 1000));
  console.log(JSON.stringify({load_ms: loadMs, bare_mb: bareMegabytes, logits}));

  for await (const line of readline.createInterface({input: process.stdin})) {
    const seconds = Number(line.split(' ')[1]);
    for (let i = 0; i < 2; ++i) await run();
    const times = [];
    const end = milliseconds() + 1000 * seconds;
    while (times.length < 3 || milliseconds() < end) {
      const before = milliseconds();
      await run();
      times.push(milliseconds() - before);
    }
    console.log(JSON.stringify({times_ms: times}));
  }
}

main().catch((error) => {
  console.error(`ort_peer: ${graph}: ${error.message}`);
  process.exit(1);
});
