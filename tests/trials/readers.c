/* A run that saves every step and keeps one checkpoint, while everybody reads it. */
#include "trials.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

void try_readers(trials *t)
{
    static outcome o;
    enum { JOBS = 8, FOREVER = 1000000 };
    double began = now();
    int rounds = 0;
    begin_trial(t, FROM_ZIP, true);
    command train = train_command(t, run_folder(t), FROM_ZIP, FOREVER, 1);
    pid_t trainer = start_command(t, &train, NULL, 1, false);
    while (now() - began < 5 || rounds < 2) {
        job jobs[MOST_JOBS];
        list_jobs(t, jobs);
        for (int i = 0; i < JOBS; i++) {
            if (jobs[i].makes) remove_all(jobs[i].makes);
            run_command(t, &jobs[i].command, NULL, DEADLINE, &o);
            const char *problem = o.code ? text("exit code %d: %s", o.code, last_complaint(&o)) : NULL;
            count_case(t, problem, "%s of a run that is being trained", jobs[i].name);
        }
        rounds++;
    }
    int step = last_line_step(run_folder(t));
    (void)step;
    kill(trainer, SIGTERM);
    finish_command(t, trainer, 1, DEADLINE, &o);
    bool stopped = o.code == 75 || (o.code == 1 && strstr(o.out, "stopped at step"));
    count_case(t, stopped ? NULL : text("exit code %d: %s", o.code, last_complaint(&o)),
               "the training that was read");
}
