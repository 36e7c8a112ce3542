/* What the machine offers: limits of control groups, and of threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cgroup.h"
#include "file.h"
#include "host.h"

static char root[64] = "/tmp/sid2-host-XXXXXX";

static void file(const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", root, name);
    assert_true(sid2_file_write(path, text, strlen(text), NULL));
}

static void limits_are(double cores, uint64_t memory)
{
    sid2_cgroup_limits limits = sid2_cgroup_read(root);
    assert_true(limits.cores == cores);
    assert_int_equal(limits.memory, memory);
    assert_true(sid2_remove_tree(root, NULL));
}

#define V2 "30 23 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
#define V1(controller, place, top)                                                                           \
    "33 31 0:30 " top " /sys/fs/cgroup/" place " rw,relatime shared:11 - cgroup cgroup rw," controller "\n"

static void without_groups(void **state)
{
    (void)state;
    limits_are(0, 0);
    file("proc/self/mountinfo", "garbage\n\n1 2 3 - \n" V2);
    file("proc/self/cgroup", "garbage\n0::\n");
    limits_are(0, 0);
}

static void a_container_is_at_the_root(void **state)
{
    (void)state;
    file("proc/self/mountinfo", V2);
    file("proc/self/cgroup", "0::/\n");
    file("sys/fs/cgroup/cpu.max", "250000 100000\n");
    file("sys/fs/cgroup/memory.max", "1073741824\n");
    limits_are(2.5, 1 << 30);
}

/* systemd-run --scope -p CPUQuota=300% in a slice of a user who may use less memory. */
static void a_scope_in_a_slice(void **state)
{
    (void)state;
    file("proc/self/mountinfo", V2);
    file("proc/self/cgroup", "0::/user.slice/user-1000.slice/run-r1.scope\n");
    file("sys/fs/cgroup/user.slice/user-1000.slice/run-r1.scope/cpu.max", "300000 100000\n");
    file("sys/fs/cgroup/user.slice/user-1000.slice/run-r1.scope/memory.max", "max\n");
    file("sys/fs/cgroup/user.slice/user-1000.slice/cpu.max", "max 100000\n");
    file("sys/fs/cgroup/user.slice/user-1000.slice/memory.max", "3000000000\n");
    file("sys/fs/cgroup/user.slice/user-1000.slice/memory.high", "2000000000\n");
    file("sys/fs/cgroup/user.slice/memory.max", "5000000000\n");
    file("sys/fs/cgroup/user.slice/other.slice/memory.max", "1\n");
    limits_are(3, 2000000000);
}

/* A step of a Slurm job, version 1: memory is the job's, cores the step's. */
static void a_step_of_a_job(void **state)
{
    (void)state;
    file("proc/self/mountinfo",
         V1("cpuset", "cpuset", "/") V1("cpu,cpuacct", "cpu,cpuacct", "/") V1("memory", "memory", "/"));
    file("proc/self/cgroup",
         "11:cpuset:/slurm/job_7\n5:cpu,cpuacct:/slurm/uid_1/job_7/step_0\n"
         "4:memory:/slurm/uid_1/job_7/step_0/task_0\n1:name=systemd:/x\n0::/y\n");
    file("sys/fs/cgroup/cpu,cpuacct/slurm/uid_1/job_7/step_0/cpu.cfs_quota_us", "800000\n");
    file("sys/fs/cgroup/cpu,cpuacct/slurm/uid_1/job_7/step_0/cpu.cfs_period_us", "100000\n");
    file("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    file("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    file("sys/fs/cgroup/memory/slurm/uid_1/job_7/step_0/task_0/memory.limit_in_bytes",
         "9223372036854771712\n");
    file("sys/fs/cgroup/memory/slurm/uid_1/job_7/memory.limit_in_bytes", "4000000000\n");
    file("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    limits_are(8, 4000000000);
}

/* An older container sees its group as what is mounted, but its name from outside. */
static void a_container_without_a_namespace(void **state)
{
    (void)state;
    file("proc/self/mountinfo", V1("memory", "memory", "/docker/abc") V1("cpu", "cpu", "/docker/abc"));
    file("proc/self/cgroup", "4:memory:/docker/abc/inner\n3:cpu:/elsewhere\n");
    file("sys/fs/cgroup/memory/memory.limit_in_bytes", "500000000\n");
    file("sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "400000000\n");
    file("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "150000\n");
    file("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    limits_are(1.5, 400000000);
}

static void this_machine(void **state)
{
    (void)state;
    assert_true(sid2_cpu_host_threads() >= 1);
    assert_true(sid2_cpu_host_memory() > 1 << 20);
    sid2_cgroup_limits limits = sid2_cgroup_read("");
    if (limits.memory) assert_true(sid2_cpu_host_memory() <= limits.memory);
    if (limits.cores >= 1) assert_true(sid2_cpu_host_threads() <= limits.cores);
    assert_int_equal(sid2_cpu_host_startable(0), 0);
    assert_int_equal(sid2_cpu_host_startable(3), 3);
}

/* The limit counts all threads of a user, and root has none: so as a user whom nobody else is. */
static void few_threads_are_counted(void **state)
{
    (void)state;
    if (getuid() != 0) skip();
    pid_t child = fork();
    if (child == 0) {
        const struct rlimit three = {3, 3};
        if (setgid(54321) || setuid(54321) || setrlimit(RLIMIT_NPROC, &three)) _exit(77);
        _exit(sid2_cpu_host_startable(8));
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) skip(); /* a container in which root may not */
    assert_int_equal(WEXITSTATUS(status), 2);
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(root) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return sid2_remove_tree(root, NULL) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_groups),
        cmocka_unit_test(a_container_is_at_the_root),
        cmocka_unit_test(a_scope_in_a_slice),
        cmocka_unit_test(a_step_of_a_job),
        cmocka_unit_test(a_container_without_a_namespace),
        cmocka_unit_test(this_machine),
        cmocka_unit_test(few_threads_are_counted),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
